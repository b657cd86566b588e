"""The only place that wires settings, store, database and service together."""
