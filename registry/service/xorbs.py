"""Xorbs: packs of chunks that a team's clients send, of which files are made afterwards (rebuilding.py).

Whose they are. A xorb is a team's own, and so is what is known of it: whoever knows the name of another team's gets
nothing for it, and sends all its bytes. A xorb counts only after its chunks were hashed: none in a team can spoil what
the others refer to.

How long they are kept. A client remembers the xorbs that it sent, three weeks long, and names them instead of sending
them again. So a xorb waits, plain, until files have all of its chunks; then its own bytes go, and what stays are the
places of its chunks in those files' blobs. Chunks that no file has yet may be named by a session that goes on after
it was cut off, or by another shard of the same push: they wait as long as an upload does. After that the xorb is
forgotten, and whoever remembers it is told to forget too.

How clients are told. They keep what they remember by the address of the store that they speak to, and that address
has the team's epoch in it: in a new epoch they remember nothing, and send what they have.
Source: xet-core, `xet_data/src/processing/configurations.rs` (`compute_cache_path`).
"""

import secrets
from datetime import datetime, timedelta
from typing import BinaryIO

from registry.blobs.checks import new_upload_id
from registry.domain.errors import QuotaExceeded
from registry.domain.reference import check_part
from registry.domain.rights import Scope
from registry.service.core import UseCases
from registry.sql.catalog import Catalog

MOST_STAGED = 256 << 30  # bytes of a team's xorbs that wait: the largest push of a team without a quota
REMEMBERED = timedelta(days=60)  # three weeks to go on with a session, three more in a client's cache, and some
_AT_ONCE = 100  # xorbs


class Xorbs(UseCases):
    """Take xorbs in."""

    def xorb_epoch(self, team: str) -> str:
        """In which epoch the team's clients are, for whoever may write there. Raises TeamNotFound, NotAllowed."""
        check_part(team, "team", team)
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.WRITE)
            found = catalog.xorbs.epoch(team)
        return found or self._begin_epoch(team, after=None)

    def keep_xorb(self, team: str, name: str, stream: BinaryIO) -> bool:
        """Keep a xorb for files to be made of; False if the team has it in its files already.

        Raises InvalidFile unless it is what its name says, QuotaExceeded, TeamNotFound, NotAllowed, WrongUsage.
        """
        from registry.xet.hashing import check_name  # lazy: start-up time
        from registry.xet.xorb import XorbReader  # lazy: start-up time

        check_name(name)
        check_part(team, "team", team)
        if self._is_in_files(team, name):
            return False
        reader, staged = XorbReader(stream, name), new_upload_id("xorb")
        self.blobs.stage(staged, reader)
        unneeded: str | None = staged
        try:
            with self.database.writing() as catalog:
                at = self.clock()
                _check_room(catalog, team, reader.size)
                unneeded = catalog.xorbs.keep(team, name, ends=reader.ends, staged=staged, at=at, actor=self.actor)
        finally:
            if unneeded:
                self.blobs.discard(unneeded)
        return True

    def _is_in_files(self, team: str, name: str) -> bool:
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.WRITE)
            found = catalog.xorbs.find(team, name)
        if found is None or found.staged:
            return False
        with self.database.writing() as catalog:
            catalog.xorbs.see(found, at=self.clock())
        return True

    def _begin_epoch(self, team: str, *, after: str | None) -> str:
        """Let a team's clients forget what they remember, unless somebody has done so since `after`."""
        epoch = secrets.token_hex(8)  # never one that a registry had before, which is lost now
        with self.database.writing() as catalog:
            return catalog.xorbs.begin_epoch(team, epoch, after=after) or epoch

    def _expire_xorbs(self, before: datetime) -> int:
        """Forget xorbs that wait since before a moment, and what no client remembers; how many waited."""
        count = 0
        while True:
            with self.database.reading() as catalog:
                some = catalog.xorbs.staged_before(before, limit=_AT_ONCE)
            for team, xorb in some:
                with self.database.writing() as catalog:
                    if xorb.is_in_files():
                        catalog.xorbs.unstage(xorb)
                    else:
                        catalog.xorbs.forget(xorb)
                        end_epoch(catalog, team)
                if xorb.staged:
                    self.blobs.discard(xorb.staged)
            count += len(some)
            if not some:
                break
        forgotten = _AT_ONCE
        while forgotten == _AT_ONCE:
            with self.database.writing() as catalog:
                forgotten = catalog.xorbs.forget_before(self.clock() - REMEMBERED, limit=_AT_ONCE)
        return count


def end_epoch(catalog: Catalog, team: str) -> None:
    """Let a team's clients forget what they remember."""
    catalog.xorbs.begin_epoch(team, secrets.token_hex(8), after=catalog.xorbs.epoch(team))


def _check_room(catalog: Catalog, team: str, size: int) -> None:
    """Refuse more waiting bytes than a team has room for beside its files. Raises QuotaExceeded."""
    held = catalog.quotas.lock(team)
    used, limit = catalog.xorbs.staged_bytes(team), MOST_STAGED
    if held and held.quota.bytes is not None:
        usage = catalog.quotas.usage(team, held.kept)
        used, limit = used + usage.bytes + usage.incoming, held.quota.bytes
    if used + size > limit:
        raise QuotaExceeded(team, "bytes", used, size, limit)
