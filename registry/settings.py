"""Where the registry keeps things: frozen settings from the environment."""
