"""The Hugging Face Hub's protocol, spoken on the registry: translation onto its use cases, and nothing kept here.

    routing.py       which request is which call, on the raw path; who is asking; refusals as the clients read them
    names.py         repositories, revisions and what they are of the registry: adapters, aliases, versions, commits
    refusals.py      the one table from errors to status codes and X-Error-Code
    queries.py       flags and counts of a query; origin.py: absolute addresses
    account.py       who the token's owner is, and what clients ask on the side
    repositories.py  one repository's facts; cards.py: what its README says, with what the registry knows
    models.py        the list of repositories
    trees.py         files and folders of a revision; entries.py: regular files and large ones
    revisions.py     branches, tags and commits
    downloads.py     files by revision
    targets.py       where a client may write; bodies.py: documents that it sends
    preupload.py     what to do with each file before a commit
    commits.py       commits; commit_lines.py: their bodies
    large_files.py   where large files go (Git LFS); sending.py: how they come in
    keeping.py       repositories begun and deleted, and their settings
    labels.py        branches and tags made and deleted
    xet.py           what newer clients send large files to: packs of chunks, and how files are made of them
    unoffered.py     what isn't offered, refused by name

Source: the protocol as huggingface_hub 0.36 to 2.4 speaks it (docs/huggingface.md has what maps to what).
"""

from registry.http.hub import (
    account,
    commits,
    downloads,
    keeping,
    labels,
    large_files,
    models,
    preupload,
    repositories,
    revisions,
    sending,
    trees,
    unoffered,
    xet,
)
from registry.http.hub.routing import HubRoute

__all__ = ["ROUTES"]

ROUTES: tuple[HubRoute, ...] = (
    *account.routes,
    *models.routes,
    *repositories.routes,
    *trees.routes,
    *revisions.routes,
    *downloads.routes,
    *keeping.routes,
    *labels.routes,
    *preupload.routes,
    *large_files.routes,
    *sending.routes,
    *commits.routes,
    *xet.routes,
    *unoffered.routes,  # last: they match what no other route does
)
