"""Which statuses let a version be found, and by what kind of reference."""

from registry.domain.errors import Gone, NotActive
from registry.domain.records import Status
from registry.domain.reference import Reference, Selector

READABLE_BY_PIN = frozenset({Status.ACTIVE, Status.YANKED})
GONE = frozenset({Status.REVOKED, Status.PURGED})


def check_found(reference: Reference, status: Status) -> None:
    """Refuse a version that its status hides from this reference: an exact pin finds a yanked one, main doesn't.

    Raises NotActive, Gone.
    """
    if status in GONE:
        raise Gone(str(reference), status.value)
    pinned = reference.selector not in (Selector.MAIN, Selector.ALIAS)
    if status is not Status.ACTIVE and not (pinned and status in READABLE_BY_PIN):
        raise NotActive(str(reference), status.value)
