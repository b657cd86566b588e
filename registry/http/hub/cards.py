"""Model cards: what a README says in its front matter, with what the registry knows of the adapter.

What a card says of base model and library is only its author's word: where the registry has read it in the adapter's
own files, it goes before. Cards come from strangers: bytes, depth and repetition are bounded, and what can't be read is
no card.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from itertools import chain
from typing import Any

import yaml

from registry.domain.records import Commit, FileEntry, Version
from registry.service import Registry

_README = "README.md"
_MOST_OF_A_CARD = 16 << 10  # bytes of a README in which the front matter has to end: to read it takes up to 0.3 s
_MOST = 1_000  # cards kept in mind
_DEEPEST = 20
_LARGEST = 2**63 - 1
_FENCE = "---"
_PEFT = "peft"
_LISTED = ("license", "language", "pipeline_tag")  # of a card, what becomes a tag


class Cards:
    """Front matters by the sha256 of their READMEs. Of one process, for its threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, registry: Registry, commit: Commit) -> Mapping[str, Any]:
        """What a commit's README says of itself; nothing of it may be changed. Blocks."""
        readme = next((file for file in commit.files if file.path == _README), None)
        if readme is None:
            return {}
        with self._lock:
            if (known := self._known.get(readme.sha256)) is not None:
                self._known.move_to_end(readme.sha256)
                return known
        found = front_matter(_begin(registry, commit, readme))
        with self._lock:
            self._known[readme.sha256] = found
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found


def _begin(registry: Registry, commit: Commit, readme: FileEntry) -> bytes:
    with registry.open_file(commit, readme.path, length=min(readme.size, _MOST_OF_A_CARD)) as stream:
        return stream.read(_MOST_OF_A_CARD)


def front_matter(readme: bytes) -> dict[str, Any]:
    """The YAML between the two fences at the head of a README, as a JSON object; empty if it is none."""
    lines = readme.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return {}
    ends = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if ends is None:
        return {}
    try:
        found = _json(yaml.load("\n".join(lines[1:ends]), _Loader))  # noqa: S506  # a safe loader, made stricter
    except Exception:  # the library's constructors fail in every way on what strangers write
        return {}
    return found if isinstance(found, dict) else {}


class _Loader(yaml.SafeLoader):
    """YAML without aliases, by which a few bytes become a document of any size."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def _json(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it: dates and the like as text. Raises ValueError for one that is too deep or too large."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if isinstance(value, dict):
        return {_text(key): _json(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner, depth + 1) for inner in value]
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError("too large")
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(value)


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()  # without halves of characters, which no answer can hold


def card_data(card: Mapping[str, Any], version: Version | None) -> dict[str, Any]:
    """A card's data, with what is known of the version."""
    data = dict(card)
    if version is None:
        return data
    if base := version.base.name:
        data["base_model"] = base
    data["library_name"] = library_of(version) or data.get("library_name")
    data["tags"] = list(dict.fromkeys([*_texts(data.get("tags")), version.summary.peft_type.lower()]))
    return {key: value for key, value in data.items() if value is not None}


def library_of(version: Version | None) -> str | None:
    """The library that loads a version's files as they are; None where several do, or none."""
    return _PEFT if version and version.summary.format == _PEFT else None


def tags(data: Mapping[str, Any], version: Version | None) -> list[str]:
    """What a repository can be found by: its card's own tags, and what `registry.http.hub.models` filters by."""
    named = (f"{key}:{value}" for key in _LISTED for value in _texts(data.get(key)))
    own = [*_texts(data.get("library_name")), *_texts(data.get("tags")), *named]
    bases = (f"base_model:{kind}{base}" for base in _texts(data.get("base_model")) for kind in ("", "adapter:"))
    if version is None:
        return list(dict.fromkeys(own))
    summary = version.summary
    targets = (f"target:{target}" for target in summary.targets)
    return list(dict.fromkeys(chain(own, bases, ["safetensors", f"rank:{summary.rank}"], targets, summary.variants)))


def _texts(value: Any) -> list[str]:
    """Text, or a list of texts."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
