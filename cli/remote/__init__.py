"""A registry on a server: the methods of `Registry` that commands use, over HTTP.

    connection.py   requests to one origin: token, timeouts, retries, bounded answers
    answers.py      an answer's bytes -> a document, or the error that the server met
    …               one file a noun, as in registry/service

This room knows no rules of the registry: what is refused is the server's business. What it is told it checks.
"""
