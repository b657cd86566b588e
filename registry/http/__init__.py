"""The registry over HTTP: routes that translate requests into use cases and their results into documents.

    app.py           the application: settings, routes, who may connect
    errors.py        the one table from errors to status codes
    access.py        who is asking: bearer tokens, remembered for less than a second
    health.py        /healthz, /readyz, /metrics
    …                one file a noun

This room decides nothing: rights, checks and transactions are the service's.
"""
