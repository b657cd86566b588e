"""edit and delete: what an adapter is described by, and its end."""

import click

from cli.client import Opened, opened
from cli.command import ASSIGNMENT, command, name_argument
from cli.output import Output, facts, next_step, say
from cli.text import count
from registry.domain.documents import adapter_document
from registry.domain.records import Adapter, Version
from registry.domain.reference import AdapterName, Reference, Selector


@command("edit", "adapters edit demo/sentiment --description 'film reviews' --metadata owner=ml")
@name_argument()
@click.option("--description", help="What it is for; an empty one takes it away.")
@click.option("--metadata", "entries", type=ASSIGNMENT, multiple=True, metavar="K=V", help="An entry; may be repeated.")
@click.option("--without", "removed", multiple=True, metavar="K", help="Take an entry away; may be repeated.")
def edit(
    out: Output,
    name: AdapterName,
    description: str | None,
    entries: tuple[tuple[str, str], ...],
    removed: tuple[str, ...],
) -> None:
    """Say what an adapter is for.

    What isn't given stays; without options, what there is is shown. Versions have descriptions of their own: `push
    --message` and `--metadata`.
    """
    changes: dict[str, str | None] = {**dict.fromkeys(removed), **dict(entries)}
    with opened() as registry:
        if description is None and not changes:
            found = registry.adapter(name)
        else:
            found = registry.edit_adapter(name, description=description, metadata=changes)
        newest = _newest(registry, found)
    out.answer(adapter_document(found, newest), lambda: _describe(found))


def _newest(registry: Opened, found: Adapter) -> Version | None:
    pin = Reference(found.name, Selector.VERSION, str(found.latest))
    return registry.peek(pin) if found.latest else None


def _describe(found: Adapter) -> None:
    entries = [(key, value) for key, value in sorted(found.metadata.items())]
    facts([("adapter", str(found.name)), ("about", found.description or "—"), *entries])


@command("delete", "adapters delete demo/wordnet --reason 'trained on the wrong corpus'")
@name_argument()
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option("--force", is_flag=True, help="Even while aliases lead there.")
def delete(out: Output, name: AdapterName, reason: str, force: bool) -> None:
    """Delete an adapter with all its versions.

    This can't be taken back: its aliases are deleted, its versions can't be read any more. A tombstone stays: whoever
    pushes under the name again goes on with the next number.
    """
    with opened() as registry:
        found = registry.delete_adapter(name, reason=reason, force=force)
        newest = _newest(registry, found)
    out.answer(
        adapter_document(found, newest),
        lambda: say(f"{found.name} is deleted, with {count(found.versions, 'version')}"),
        lambda: next_step(f"adapters list {found.name.team}"),
    )
