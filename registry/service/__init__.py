"""The registry's use cases, one method each, split by noun.

    core.py          database, blobs, caller, clock; who may do what is asked for there
    lookup.py        references -> versions, listings, search, lineage, differences
    history.py       commits: what a revision shows, and what came before it
    repositories.py  adapters as repositories: their references, and lists of them
    resolution.py    the look-up that serving stacks ask for
    bases.py         base models, and settling which one a version belongs to
    committing.py    changes to what main has, as clients of a repository make them
    publishing.py    the one gate for everything that becomes a version (repeating.py: once, under a key)
    base_gate.py     the same gate's part for commits that hold a base model
    transfers.py     folders in and out (workfolder.py: which files, and a pull's note; landing.py: files on their way)
    uploads.py       files on their way in, in parts (arrivals.py: how far they are)
    completion.py    reading what came, and letting the team have it
    xorbs.py         packs of chunks, as Xet's clients send them; rebuilding.py makes files of them (out of shelf.py)
    tags.py          notes on commits
    aliases.py       promote, rollback, history: one `move_alias` for all
    comparison.py    versions side by side, with paired differences
    gates.py         what a version must show before an alias may point at it
    watching.py      what happened since a cursor
    monitoring.py    how much waits and is under way
    webhooks.py      whom to tell; delivering.py tells them, upkeep.py is the thread in a server that does so
    quotas.py        how much a team may keep
    collecting.py    what nothing refers to goes after a grace, and why no race can lose bytes
    purging.py       what must go goes at once
    editing.py       what an adapter is described by, and its deletion
    access.py        teams, members, tokens, the audit log
    jobs.py          compositions and verifications that are asked for now and done later
    working.py       the same for those who do them: claims, leases, ends
    stewardship.py   evaluations, statuses
    integrity.py     whether stored bytes are whole: verification, scrubbing, repair

A use case owns its transaction. This layer knows no HTTP, no command line and no tensors.
"""

from registry.service.access import Access
from registry.service.aliases import Aliases
from registry.service.bases import Bases
from registry.service.committing import Committing
from registry.service.comparison import Comparison
from registry.service.gates import Gates
from registry.service.history import History
from registry.service.monitoring import Monitoring
from registry.service.purging import Purging
from registry.service.quotas import Quotas
from registry.service.rebuilding import Rebuilding
from registry.service.repositories import Repositories
from registry.service.resolution import Resolution
from registry.service.stewardship import Stewardship
from registry.service.tags import Tags
from registry.service.transfers import Transfers
from registry.service.watching import Watching
from registry.service.webhooks import Webhooks
from registry.service.working import Working

__all__ = ["Registry"]


class Registry(
    Working,
    Committing,
    Transfers,
    Rebuilding,
    Bases,
    Resolution,
    History,
    Repositories,
    Aliases,
    Tags,
    Stewardship,
    Purging,
    Comparison,
    Gates,
    Access,
    Watching,
    Monitoring,
    Webhooks,
    Quotas,
):
    """Everything that one can do with a registry, embedded or behind a server."""
