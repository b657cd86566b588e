"""Teams that a transaction made: the log tells of them before anything else that it tells of that transaction.

Whatever first comes to a team makes it: a push, an upload, a repository, `team create`. The event waits for the others
of its transaction, or for its end: whoever appends holds up everybody else (see the order of locks in engine.py).
"""

from sqlalchemy.engine import Connection

FOUNDED = "adapters_founded"  # execution option of a connection that is about to write: a list of (team, actor)


def note_founded(connection: Connection, team: str, actor: str) -> None:
    """Note that a team was made."""
    connection.get_execution_options()[FOUNDED].append((team, actor))


def take_founded(connection: Connection) -> list[tuple[str, str]]:
    """The teams that were made and not told of yet, each with who made it; they count as told now."""
    noted: list[tuple[str, str]] = connection.get_execution_options().get(FOUNDED, [])
    taken, noted[:] = list(noted), []
    return taken
