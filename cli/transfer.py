"""push and pull: folders into the registry and out of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.client import opened
from cli.command import ADAPTER_NAME, ADAPTER_PATH, ASSIGNMENT, command, reference_argument
from cli.facts import base_text, shape_text, warn_if_declared
from cli.indexing import index_path, looks_like_path
from cli.output import Output, Progress, facts, next_step, say
from cli.text import count, human_size
from registry.domain.records import Version
from registry.domain.reference import AdapterName, Reference

if TYPE_CHECKING:
    from registry.service.bases import BaseClaim
    from registry.service.publishing import Publication
    from registry.service.workfolder import Pull


@command("push", 'adapters push ./sentiment demo/sentiment --message "film reviews"')
@click.argument("path", metavar="PATH", type=ADAPTER_PATH, help="the adapter's folder, or its .safetensors file")
@click.argument("name", metavar="TEAM/NAME", type=ADAPTER_NAME, help="the adapter; the first push creates it")
@click.option("--base", help="The base model: a registered name or sha256:…, or ./DIR or FILE.gguf to be hashed.")
@click.option("--alias", "aliases", multiple=True, help="Point this alias at the version; may be repeated.")
@click.option("--message", default="", help="What this version is.")
@click.option("--metadata", type=ASSIGNMENT, multiple=True, help="Something to remember; may be repeated.")
def push(
    out: Output,
    path: Path,
    name: AdapterName,
    base: str | None,
    aliases: tuple[str, ...],
    message: str,
    metadata: tuple[tuple[str, str], ...],
) -> None:
    """Publish a folder or a file as the next version of an adapter.

    The adapter is checked against its base model before anything is stored. Content that is there already gives the
    version that it has. Without --base, the base is the one that the adapter's configuration names; a folder or file
    given as --base is hashed and must be registered, which makes the evidence exact. PEFT's folders are read, and
    kohya's, LyCORIS's and diffusers' .safetensors files.
    """
    with opened() as registry, out.progress() as progress:
        from registry.service.publishing import Submission  # lazy: start-up time

        claim = _claim(base, progress) if base else None
        submission = Submission(
            name, (), base=claim, message=message, metadata=dict(metadata), aliases=tuple(dict.fromkeys(aliases))
        )
        publication = registry.push_folder(path, submission, progress=progress)
    out.answer(publication.document, lambda: _describe_push(name, publication))


def _claim(base: str, progress: Progress) -> "BaseClaim":
    from registry.service.bases import BaseClaim  # lazy: start-up time

    if looks_like_path(base):
        return BaseClaim(f"sha256:{index_path(Path(base), progress).fingerprint}", hashed=True)
    return BaseClaim(base)


def _describe_push(name: AdapterName, publication: "Publication") -> None:
    version = publication.version
    if version is None:
        say(f"committed {name}@{publication.commit}; no version: the folder holds no adapter yet")
        return
    known = "" if publication.created else " (this content was there already)"
    facts(
        [
            ("pushed", f"{version.reference}{known}"),
            ("digest", f"sha256:{version.digest}"),
            ("base", base_text(version.base)),
            ("adapter", shape_text(version.summary)),
            *(("alias", f"{move.alias} → v{move.after} (seq {move.seq})") for move in publication.moves),
        ]
    )
    if publication.left_out:
        say(f"left out, as nobody serves them: {', '.join(publication.left_out)}")
    warn_if_declared(version.base)
    next_step(_after_push(version, publication))


def _after_push(version: Version, publication: "Publication") -> str:
    if publication.moves:
        return f"adapters resolve {version.adapter}@{publication.moves[0].alias}"
    return f"adapters promote {version.reference} production"


@command("pull", "adapters pull demo/sentiment@production --to ./served")
@reference_argument()
@click.option("--to", type=click.Path(path_type=Path), help="The folder to put it in; ./<name> by default.")
def pull(out: Output, reference: Reference, to: Path | None) -> None:
    """Fetch a version into a folder, every byte verified.

    The folder appears as a whole or not at all. One that an earlier pull left is brought up to date, and what is
    right in it already does not move again; any other folder with something in it is refused.
    """
    with opened() as registry, out.progress() as progress:
        version = registry.find_version(reference)
        folder = to or Path(version.adapter.name)
        pulled = registry.pull(version, folder, progress=progress)
    document = {
        "name": str(version.adapter),
        "version": version.number,
        "digest": f"sha256:{version.digest}",
        "folder": str(pulled.folder),
        "files": pulled.files,
        "bytes_moved": pulled.bytes_moved,
    }
    out.answer(document, lambda: _describe_pull(version, pulled, folder))


def _describe_pull(version: Version, pulled: "Pull", folder: Path) -> None:
    moved = f"{human_size(pulled.bytes_moved)} moved" if pulled.bytes_moved else "0 bytes moved: all was there"
    facts(
        [
            ("pulled", version.reference),
            ("folder", str(folder)),
            ("files", f"{count(pulled.files, 'file')} verified, {moved}"),
            ("base", base_text(version.base)),
        ]
    )
    warn_if_declared(version.base)
    next_step(f'PeftModel.from_pretrained(base, "{folder}")')
