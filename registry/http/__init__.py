"""The registry over HTTP: routes that translate requests into use cases and their results into documents.

    app.py           the application: settings, routes, who may connect
    errors.py        the one table from errors to status codes
    freshness.py     how sure a worker is that nothing changed: the one bound on what is kept
    access.py        who is asking: bearer tokens, remembered while nothing changes
    answers.py shelf.py   look-ups' answers, kept until the log tells of their adapter
    counter.py       kept answers handed out before a task or a route exists
    proxies.py       the host that a client dialled, behind proxies that are trusted
    ranges.py        a file as an answer: whole, a range of it, or nothing new
    limits.py        how large a body may be
    metrics.py observing.py   figures for Prometheus, a line of log a request
    health.py        /healthz, /readyz, /metrics
    *schemas.py      the shapes of answers, for the OpenAPI document
    hub/             the Hugging Face Hub's protocol
    …                one file a noun

This room decides nothing: rights, checks and transactions are the service's.
"""
