"""The list of repositories that the caller may read: by name, or those whose main shows what is asked for.

    author       a team
    search       beginnings of words of name, message or metadata
    filter       peft, lora and other kinds of adapters; safetensors
                 base_model:NAME, base_model:adapter:NAME     made for that base (a label, or sha256:<hex>)
                 rank:16, rank:8..32, target:q_proj           as `adapters search` has them
    sort         lastModified: newest version first, which is also the order of what is searched or filtered
    full, cardData, limit

What a repository's tags can't be searched by here is refused by name: an empty list would say that there is none.
"""

import re
from dataclasses import replace
from typing import Any

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.errors import WrongUsage
from registry.domain.records import Page, SearchQuery
from registry.http.hub.origin import next_page
from registry.http.hub.queries import count, expanded, flag, wanted_of
from registry.http.hub.repositories import cards_of, described, of_commit
from registry.http.hub.routing import Call, HubRoute
from registry.service.repositories import Listed

PAGE = 100
_PATH = "/api/models"
_KNOWN = frozenset(
    {"author", "search", "filter", "sort", "direction", "limit", "cursor", "full", "cardData", "config", "gated"}
    | {"expand", "expand[]"}
)
_MOST_FILTERS = 50  # conditions of one search
_NEWEST_FIRST = frozenset({"lastModified", "last_modified"})
_RANK = re.compile(r"([0-9]{1,9})(\.\.([0-9]{1,9}))?", re.ASCII)
_TARGET = "target:"
_OTHER_RELATIONS = ("finetune:", "merge:", "quantized:")  # of models, not of adapters
_KINDS = ("lora", "loha", "lokr", "ia3")


async def models(call: Call) -> Response:
    """A page of repositories."""
    return await run_in_threadpool(_models, call)


def _models(call: Call) -> Response:
    _check_known(call)
    wanted = wanted_of(call)
    whole = flag(call, "full") or not wanted.isdisjoint({"sha", "siblings", "usedStorage"})
    card = whole or flag(call, "cardData") or not wanted.isdisjoint({"cardData", "tags"})
    page = _page(call, commits=card)
    documents = [expanded(call, _document(call, listed, whole=whole)) for listed in page.items]
    headers = next_page(call.request, _PATH, **_again(call, page.cursor)) if page.cursor else {}
    return JSONResponse(documents, headers=headers)


def _page(call: Call, *, commits: bool) -> Page[Listed]:
    query, limit = call.request.query_params, count(call, "limit", most=PAGE)
    author, cursor = query.get("author"), query.get("cursor")
    if flag(call, "gated"):
        return Page((), None)  # none is
    filters = [part for line in query.getlist("filter") for part in line.split(",") if part]
    if len(filters) > _MOST_FILTERS:
        raise WrongUsage(f"at most {_MOST_FILTERS} filters are taken at once")
    search = query.get("search")
    if not filters and not search and not query.get("sort"):
        return call.registry.repositories(team=author, cursor=cursor, limit=limit, commits=commits)
    wanted = SearchQuery(team=author, text=search, shown=True, limit=limit, cursor=cursor)
    for part in filters:
        wanted = _narrowed(wanted, part)
    return call.registry.search_repositories(wanted, commits=commits)


def _narrowed(query: SearchQuery, text: str) -> SearchQuery:
    """A query with one more condition. Raises WrongUsage."""
    condition = _condition(text)
    taken = [name for name in condition if getattr(query, name) not in (None, condition[name])]
    if taken:
        raise WrongUsage(f"a repository has one {taken[0].replace('_', ' ')}: the filter {text[:80]!r} is one too many")
    targets = () if not text.startswith(_TARGET) else (text.removeprefix(_TARGET),)
    return replace(query, **condition, targets=query.targets + targets)


def _condition(text: str) -> dict[str, Any]:
    """What a filter says of a version, but for its targets. Raises WrongUsage for one that isn't known."""
    if text == "safetensors" or (text.startswith(_TARGET) and text != _TARGET):
        return {}  # every adapter is
    if text == "peft":
        return {"format": text}
    if text.lower() in _KINDS:
        return {"peft_type": text.upper()}
    name, _, value = text.partition(":")
    if name == "base_model" and value and not value.startswith(_OTHER_RELATIONS):
        return {"base": value.removeprefix("adapter:")}
    if name == "rank" and (rank := _RANK.fullmatch(value)):
        return {"rank_min": int(rank[1]), "rank_max": int(rank[3] or rank[1])}
    known = f"peft, safetensors, {', '.join(_KINDS)}, base_model:NAME, rank:N, rank:N..M and target:MODULE"
    raise WrongUsage(f"repositories can't be filtered by {text[:80]!r} here; filters are {known}")


def _check_known(call: Call) -> None:
    """Refuse what would else be passed over. Raises WrongUsage."""
    query = call.request.query_params
    for name, value in query.multi_items():
        if not value.isprintable():
            raise WrongUsage(f"{name[:80]!r} holds what can't be printed: {value[:80]!r}")
        if name not in _KNOWN:
            raise WrongUsage(f"repositories can't be listed by {name[:80]!r} here; author, search and filter are known")
    if query.get("sort", "lastModified") not in _NEWEST_FIRST or query.get("direction", "-1") != "-1":
        raise WrongUsage(f"repositories can't be sorted by {query.get('sort')!r} here: lastModified is, newest first")


def _document(call: Call, listed: Listed, *, whole: bool) -> dict[str, Any]:
    commit = listed.commit
    card = cards_of(call).of(call.registry, commit) if commit else {}
    document = described(str(listed.adapter.name), listed.adapter, card, version=listed.version)
    document["private"] = not listed.public
    if commit is None:
        del document["cardData"]
    return document | (of_commit(call, commit) if commit and whole else {})


def _again(call: Call, cursor: str) -> dict[str, Any]:
    """The same question about the next page."""
    query = call.request.query_params
    return {name: query.getlist(name) for name in query if name != "cursor"} | {"cursor": cursor}


routes = (HubRoute("GET", _PATH, models),)
