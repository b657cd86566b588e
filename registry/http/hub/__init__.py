"""The Hugging Face Hub's protocol, spoken on the registry: translation onto its use cases, and nothing kept here.

    routing.py       which request is which call, on the raw path; who is asking; refusals as the clients read them
    names.py         repositories, revisions and what they are of the registry: adapters, aliases, versions, commits
    refusals.py      the one table from errors to status codes and X-Error-Code
    account.py       who the token's owner is, and what clients ask on the side
    xet.py           what newer clients send large files to: packs of chunks, and how files are made of them

Source: the protocol as huggingface_hub 0.36 to 2.4 speaks it (docs/huggingface.md has what maps to what).
"""

from registry.http.hub import account, xet
from registry.http.hub.routing import HubRoute

__all__ = ["ROUTES"]

ROUTES: tuple[HubRoute, ...] = (*account.routes, *xet.routes)
