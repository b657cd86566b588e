"""Xorbs of a team as they are looked at while files are made of them: a bounded part of them is kept in mind."""

from collections import OrderedDict

from registry.domain.errors import UnknownXorb
from registry.domain.xorbs import Xorb
from registry.sql.engine import Database

_ROOM = 500_000  # chunks and spans


class Shelf:
    """A team's xorbs by name, as they were when they were last looked up."""

    def __init__(self, database: Database, team: str) -> None:
        self.team = team
        self._database = database
        self._kept: OrderedDict[str, Xorb] = OrderedDict()
        self._weight = 0

    def get(self, name: str) -> Xorb:
        """A xorb. Raises UnknownXorb."""
        kept = self._kept.get(name)
        if kept is None:
            return self.get_anew(name)
        self._kept.move_to_end(name)
        return kept

    def get_anew(self, name: str) -> Xorb:
        """A xorb as it is now. Raises UnknownXorb."""
        self._drop(self._kept.pop(name, None))
        with self._database.reading() as catalog:
            found = catalog.xorbs.find(self.team, name)
        if found is None:
            raise UnknownXorb(self.team, name)
        self._kept[name] = found
        self._weight += _weight(found)
        while self._weight > _ROOM and len(self._kept) > 1:
            self._drop(self._kept.popitem(last=False)[1])
        return found

    def clear(self) -> None:
        """Keep nothing in mind: something has changed."""
        self._kept.clear()
        self._weight = 0

    def _drop(self, xorb: Xorb | None) -> None:
        if xorb is not None:
            self._weight -= _weight(xorb)


def _weight(xorb: Xorb) -> int:
    return len(xorb.ends) + len(xorb.spans)
