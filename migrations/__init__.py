"""Schema migrations. Run by `registry.sql.schema`, in one transaction and under a lock; never by hand."""
