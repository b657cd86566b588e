"""lineage: what a version was made of, down to what was pushed, and what was made of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli.client import opened
from cli.command import command, reference_argument
from cli.output import Output, draw
from cli.provenance import origin_texts
from cli.text import clean, short_digest
from registry.domain.documents import lineage_document
from registry.domain.records import Lineage, Parent
from registry.domain.reference import Reference, Selector

if TYPE_CHECKING:
    from rich.tree import Tree

    from cli.client import Opened

_MOST = 1000  # versions that one answer holds: a lineage may be as large as the registry
_DEEPEST = 100

Edges = Callable[[Lineage], Iterable[Parent]]


@dataclass(frozen=True, slots=True)
class Family:
    """A version's lineage and that of every version found from it along the edges asked for."""

    root: Lineage
    known: dict[Parent, Lineage]
    complete: bool


@command("lineage", "adapters lineage demo/both --descendants")
@reference_argument()
@click.option("--descendants", is_flag=True, help="Follow what was made of it instead.")
def lineage(out: Output, reference: Reference, descendants: bool) -> None:
    """Show what a version was made of, and what was made of it.

    Parents are followed down to adapters that were pushed; --descendants follows the other way.
    """
    edges = _children if descendants else _parents
    with opened() as registry:
        family = _explore(registry, registry.lineage(registry.peek(reference)), edges)
    out.answer(_document(family, "descendants" if descendants else "ancestors"), lambda: _draw(family, edges))


def _parents(lineage: Lineage) -> Iterable[Parent]:
    return dict.fromkeys(parent for line in lineage.provenance for parent in line.parents)


def _children(lineage: Lineage) -> Iterable[Parent]:
    return lineage.descendants


def _explore(registry: "Opened", root: Lineage, edges: Edges) -> Family:
    """Breadth first, each version once."""
    known: dict[Parent, Lineage] = {}
    waiting = list(edges(root))
    for relative in waiting:  # grows while it is walked
        if relative not in known and len(known) < _MOST:
            pin = Reference(relative.adapter, Selector.VERSION, str(relative.version))
            known[relative] = registry.lineage(registry.peek(pin))
            waiting.extend(edges(known[relative]))
    return Family(root, known, complete=all(relative in known for relative in waiting))


def _document(family: Family, direction: str) -> dict[str, Any]:
    relatives = [lineage_document(relative) for relative in family.known.values()]
    return {
        **lineage_document(family.root),
        "direction": direction,
        "relatives": relatives,
        "complete": family.complete,
    }


def _draw(family: Family, edges: Edges) -> None:
    from rich.tree import Tree  # lazy: start-up time

    tree = Tree(_label(family.root), guide_style="dim")
    shown: set[Parent] = set()
    _grow(tree, family.root, family, edges=edges, shown=shown, depth=0)
    draw(tree)


def _grow(tree: "Tree", of: Lineage, family: Family, *, edges: Edges, shown: set[Parent], depth: int) -> None:
    for relative in edges(of):
        found = family.known.get(relative)
        if found is None or relative in shown or depth >= _DEEPEST:
            tree.add(clean(f"{relative.adapter}@v{relative.version} …"))
            continue
        shown.add(relative)
        branch = tree.add(_label(found))
        _grow(branch, found, family, edges=edges, shown=shown, depth=depth + 1)


def _label(lineage: Lineage) -> str:
    made = "".join(f"\n= {text}" for text in origin_texts(lineage))
    pushed = "" if all(line.recipe for line in lineage.provenance) else "  pushed"
    who = lineage.provenance[0].actor if lineage.provenance else "unknown"
    head = f"{lineage.adapter}@v{lineage.version}  {short_digest(lineage.digest)}{pushed}  by {who}"
    return clean(head + made, keep="\n")
