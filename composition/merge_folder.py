"""The folder that a merge is written into: its lock, what of it is finished, and how it becomes the output.

    OUT.partial/                  while it is written, next to OUT and under a lock
        merge.progress.json       which merge this is, and the digest of each shard that is finished
        <shard>                   finished: complete and on the disk
        .<shard>.part             being written
    OUT/                          renamed as a whole, once everything is there
        merge.json                the recipe, the base's fingerprint and the digest of every file
        <shard> …                 each with the header and the layout of the base's
        config.json, tokenizer …  copies

It knows files and digests, and no tensors.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from composition.merge_plan import Merged, MergedShard, Plan, Progress, check_output
from registry.domain.digest import sha256_stream
from registry.domain.errors import NotEnoughSpace, OutputTaken
from registry.formats.json_document import JsonLimits, parse_object

MANIFEST = "merge.json"

_PROGRESS = "merge.progress.json"
_LOCK = ".lock"
_LIMITS = JsonLimits(size=256 << 20)
# What makes the base's folder a model besides its weights. Other files may hold weights that are not merged.
_COPIED = frozenset({".json", ".txt", ".md", ".model", ".jinja", ".tiktoken", ".vocab", ".py", ".spm"})
_COPIED_NAMES = frozenset({"license", "notice", ".gitattributes"})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it ends with the process. Raises OutputTaken while another one holds it."""
    with (folder / _LOCK).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputTaken(str(folder)) from None
        yield


def finished(plan: Plan, progress: Progress) -> dict[str, MergedShard]:
    """The shards {path: shard} that an earlier run of the same merge finished, each hashed again.

    Raises OutputTaken if the folder belongs to another merge.
    """
    path = plan.partial / _PROGRESS
    if not path.exists():
        if any(not entry.name.startswith(".") for entry in plan.partial.iterdir()):
            raise OutputTaken(str(plan.partial))
        return {}
    document = parse_object(path.read_bytes(), path=str(path), limits=_LIMITS)
    if document.get("plan") != plan.digest:
        raise OutputTaken(str(plan.partial))
    shards = [MergedShard(**{**entry, "unchanged": tuple(entry["unchanged"])}) for entry in document["shards"]]
    found: dict[str, MergedShard] = {}
    for done, shard in enumerate(shards):
        progress("verifying", done, len(shards))
        if _holds(plan.partial / shard.path, shard):
            found[shard.path] = shard
    return found


def record(plan: Plan, shards: Iterable[MergedShard]) -> None:
    """Note which shards are finished, for a run that continues this one."""
    document = {"plan": plan.digest, "shards": [asdict(shard) for shard in shards]}
    _write_json(plan.partial / _PROGRESS, document)


def _holds(path: Path, shard: MergedShard) -> bool:
    if not path.is_file() or path.stat().st_size != shard.size:
        return False
    with path.open("rb") as stream:
        return sha256_stream(stream) == (shard.sha256, shard.size)


def companions(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The other files of the base {relative path}: those that are copied, and those that are left out."""
    shards = {shard.path for shard in plan.shards}
    copied: list[str] = []
    left_out: list[str] = []
    for root, folders, names in os.walk(plan.base):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = (Path(root) / name).relative_to(plan.base).as_posix()
            wanted = Path(name).suffix.lower() in _COPIED or name.lower() in _COPIED_NAMES
            if path not in shards and path not in (MANIFEST, _PROGRESS):
                (copied if wanted else left_out).append(path)
    return tuple(copied), tuple(left_out)


def check_space(plan: Plan, done: Mapping[str, MergedShard]) -> None:
    needed = sum(shard.size for shard in plan.shards if shard.path not in done)
    free = shutil.disk_usage(plan.partial).free
    if needed > free:
        raise NotEnoughSpace(str(plan.out.parent), needed, free)


def copy(plan: Plan, path: str) -> dict[str, Any]:
    """Copy one of the base's other files; returns its entry in the manifest."""
    source, target = plan.base / path, plan.partial / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb") as stream:
        digest, size = sha256_stream(stream)
        os.fsync(stream.fileno())
    return {"path": path, "size": size, "sha256": digest}


def write_manifest(plan: Plan, merged: Merged, files: Iterable[Mapping[str, Any]]) -> None:
    document = {
        "schema": 1,
        **plan.origin,
        "shards": [{key: value for key, value in asdict(s).items() if key != "unchanged"} for s in merged.shards],
        "files": list(files),
        "left_out": list(merged.left_out),
        "unchanged": list(merged.unchanged),
    }
    _write_json(plan.partial / MANIFEST, document)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a merged folder says of itself. Raises InvalidFile."""
    path = folder / MANIFEST
    return parse_object(path.read_bytes(), path=str(path), limits=_LIMITS)


def put_in_place(plan: Plan) -> None:
    """Turn the finished folder into the output."""
    sync_folder(plan.partial)
    check_output(plan.out)
    plan.partial.rename(plan.out)
    for name in (_PROGRESS, _LOCK):
        (plan.out / name).unlink()
    sync_folder(plan.out.parent)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file at once: the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(path)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
