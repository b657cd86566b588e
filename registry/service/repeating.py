"""Publishing under a key: the same request again is answered as it was before, however often it comes."""

from typing import Any

from registry.domain.errors import KeyReused
from registry.domain.texts import MAX_KEY, check_text
from registry.service.core import Progress, silent
from registry.service.publishing import Publishing, Submission


class Repeating(Publishing):
    """Publish once."""

    def publish_once(
        self, submission: Submission, *, key: str, request: str, progress: Progress = silent
    ) -> dict[str, Any]:
        """Publish, or answer as the same request was answered before; returns the publication's document.

        `key` is the caller's name for the request, `request` the sha256 of what is asked. An answer is kept in the
        transaction that publishes; a refusal is not kept. Raises KeyReused, and what `publish` and `progress` raise.
        """
        check_text("the Idempotency-Key", key, MAX_KEY)
        self._check_rights(submission)
        with self.database.reading() as catalog:
            if known := catalog.answered.find(self.actor, key):
                return _same(known, key, request)
        draft = self._checked(submission, progress)
        with self.database.writing() as catalog:
            if not catalog.answered.claim(self.actor, key, request=request, at=self.clock()):
                known = catalog.answered.find(self.actor, key)
                assert known is not None
                return _same(known, key, request)
            document = self._publish(catalog, submission, draft).document
            catalog.answered.answer(self.actor, key, document)
        return document


def _same(known: tuple[str, dict[str, Any]], key: str, request: str) -> dict[str, Any]:
    if known[0] != request:
        raise KeyReused(key)
    return known[1]
