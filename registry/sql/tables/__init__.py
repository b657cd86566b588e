"""The tables, as typed declarative mappings; one module a noun, so that a look-up builds only what it reads.

    namespaces ─┬─ memberships ── principals ── tokens
                ├─ uploads
                ├─ xorb_caches, xorbs ── xorb_spans
                ├─ blob_possessions ── blobs ──┐
                └─ adapters ─┬─ gates
                             ├─ commits ── commit_files
                             ├─ versions ─┬─ version_modules, version_targets, version_words
                             │            ├─ version_bases          (base_models ── base_names)
                             │            ├─ provenances ── lineage_edges
                             │            ├─ approvals
                             │            ├─ evaluations ── evaluation_metrics
                             │            └─ version_metrics
                             ├─ recipes
                             └─ aliases ── alias_stack, alias_moves
    events, event_counter, answered_requests

Statements are built on the tables of these classes (`table`), not on an ORM session: configuring the mappers costs
more than a look-up. Nothing here runs a statement.
"""
