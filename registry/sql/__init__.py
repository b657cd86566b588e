"""The catalog: every name, version, alias and event, in SQLite or PostgreSQL.

Rows never leave this room: callers get the frozen records of `registry.domain`. It knows no files, blobs or HTTP, and
it decides nothing that is policy (who may, which gate): those are the service's. It does keep the laws that only a
database can keep: numbers that are never reused, compare-and-set under a lock, one snapshot a read, events in commit
order.
"""
