"""Requests that the registry makes to addresses that somebody else named. Knows no database and no use cases."""
