"""The `adapters` program. A command loads what it needs and no more: `--help` and look-ups stay fast."""
