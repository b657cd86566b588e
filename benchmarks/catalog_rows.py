"""A catalog of any size, loaded in bulk: what `benchmarks.lookup` looks around in.

Every tenth version belongs to one adapter, which so has very many; the others have twenty each. A version has a commit
of two files, four targets, a handful of words and a base; each tenth was evaluated, every adapter has an alias.
Everything follows from a version's index, so that no state is kept while rows stream into the database.
"""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Table

from registry.sql.tables.alias_moves import alias_moves, alias_stack
from registry.sql.tables.aliases import aliases
from registry.sql.tables.bases import base_models, base_names
from registry.sql.tables.blobs import blob_possessions, blobs
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.evaluations import evaluation_metrics, evaluations, version_metrics
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.version_parts import version_bases, version_modules, version_targets, version_words
from registry.sql.tables.versions import versions

START = datetime(2026, 1, 1, tzinfo=UTC)
RANKS = (4, 8, 8, 8, 16, 16, 32, 64)
RARE_RANK = 256  # one version in 50,000
PER_ADAPTER = 20
EVERY = 10  # each tenth version is the large adapter's, each tenth is evaluated
PER_TEAM = 50  # adapters
CREATED = {"actor": "bench", "created_at": START}
BASES = 5
TARGETS = (("query", "value"), ("q_proj", "k_proj", "v_proj", "o_proj"), ("up_proj", "down_proj", "gate_proj"))
TOPICS = ("sentiment", "german", "legal", "medical", "support", "code", "debian", "genre")
RARE_TOPIC = "wordnet"  # one version in 10,000
CONFIG = hashlib.sha256(b"config").hexdigest()  # the one blob that all versions share


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(index: int) -> str:
    """The content digest of a version."""
    return sha(f"content {index}")


@cache
def fingerprint_of(base: int) -> str:
    return sha(f"base {base}")


def place(index: int) -> tuple[int, int]:
    """Adapter (0 is the large one) and number of a version."""
    if index % EVERY == 0:
        return 0, index // EVERY + 1
    other = index - index // EVERY - 1
    return 1 + other // PER_ADAPTER, other % PER_ADAPTER + 1


def name_of(adapter: int) -> tuple[str, str]:
    """Team and name of an adapter."""
    return f"team{adapter // PER_TEAM}", f"{TOPICS[adapter % len(TOPICS)]}-{adapter}"


def at(index: int) -> datetime:
    return START + timedelta(seconds=index)


class Population:
    """The rows of a catalog with `count` versions, table by table, parents before children."""

    def __init__(self, count: int) -> None:
        self.count = count
        others = count - (count + EVERY - 1) // EVERY
        self.adapters = 1 + (others + PER_ADAPTER - 1) // PER_ADAPTER

    def tables(self) -> Iterator[tuple[Table, Iterable[dict[str, Any]]]]:
        yield namespaces, map(_namespace, range((self.adapters - 1) // PER_TEAM + 1))
        yield adapters, map(self._adapter, range(self.adapters))
        yield base_models, map(_base, range(BASES))
        yield base_names, map(_base_name, range(BASES))
        yield blobs, map(_blob, range(-1, self.count))
        yield blob_possessions, map(_possession, range(self.count))
        yield commits, map(_commit, range(self.count))
        yield commit_files, (file for index in range(self.count) for file in _files(index))
        yield versions, map(_version, range(self.count))
        yield version_modules, ({"version_id": index + 1, "modules": []} for index in range(self.count))
        yield version_targets, (target for index in range(self.count) for target in _targets(index))
        yield version_words, (word for index in range(self.count) for word in _words(index))
        yield version_bases, map(_version_base, range(self.count))
        yield aliases, map(self._alias, range(self.adapters))
        yield alias_stack, map(self._stack, range(self.adapters))
        yield alias_moves, map(self._move, range(self.adapters))
        yield evaluations, map(_evaluation, range(0, self.count, EVERY))
        yield evaluation_metrics, ({"evaluation_id": of, **metric} for of, _, metric in _metrics(self.count))
        yield version_metrics, ({"version_id": of, **metric} for _, of, metric in _metrics(self.count))

    def latest(self, adapter: int) -> int:
        """The newest version of an adapter."""
        if adapter == 0:
            return (self.count - 1) // EVERY + 1
        others = self.count - (self.count - 1) // EVERY - 1
        return min(PER_ADAPTER, others - (adapter - 1) * PER_ADAPTER)

    def _adapter(self, adapter: int) -> dict[str, Any]:
        team, name = name_of(adapter)
        return {
            "id": adapter + 1,
            "namespace_id": adapter // PER_TEAM + 1,
            "name": name,
            "name_key": f"{team}/{name}",
            "head": None,
            "description": None,
            "metadata": None,
            "deleted_at": None,
            "last_number": self.latest(adapter),
            "actor": "bench",
            "created_at": START,
            "updated_at": START,
        }

    def _alias(self, adapter: int) -> dict[str, Any]:
        return {
            "id": adapter + 1,
            "adapter_id": adapter + 1,
            "name": "production",
            "name_key": "production",
            "number": (self.latest(adapter) + 1) // 2,
            "seq": 1,
            "actor": "bench",
            "updated_at": START,
        }

    def _stack(self, adapter: int) -> dict[str, Any]:
        return {"alias_id": adapter + 1, "position": 1, "number": (self.latest(adapter) + 1) // 2}

    def _move(self, adapter: int) -> dict[str, Any]:
        return {
            "id": adapter + 1,
            "adapter_id": adapter + 1,
            "alias_id": adapter + 1,
            "seq": 1,
            "kind": "promote",
            "before": None,
            "after": (self.latest(adapter) + 1) // 2,
            "actor": "bench",
            "reason": None,
            "at": START,
        }


def _namespace(team: int) -> dict[str, Any]:
    name = f"team{team}"
    return {
        "id": team + 1,
        "name": name,
        "name_key": name,
        "visibility": "private",
        **CREATED,
    }


def _base(base: int) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint_of(base),
        "format": "safetensors",
        "model_type": "bert",
        "tensors": 0,
        "parameters": 0,
        "size": 0,
        "quantised_of": None,
        "succeeds": None,
        **CREATED,
        "tensor_index": [],
    }


def _base_name(base: int) -> dict[str, Any]:
    name = f"base{base}"
    return {
        "name_key": name,
        "name": name,
        "fingerprint": fingerprint_of(base),
        **CREATED,
    }


def _blob(index: int) -> dict[str, Any]:
    return {"sha256": CONFIG if index < 0 else sha(f"blob {index}"), "size": 300_000, "created_at": START}


def _possession(index: int) -> dict[str, Any]:
    team = place(index)[0] // PER_TEAM + 1
    return {"namespace_id": team, "sha256": sha(f"blob {index}"), "actor": "bench", "created_at": START}


def _commit(index: int) -> dict[str, Any]:
    adapter, number = place(index)
    return {
        "id": index + 1,
        "adapter_id": adapter + 1,
        "hash": sha(f"commit {index}")[:40],
        "parent": None,
        "author": "bench",
        "message": "train",
        "number": number,
        "created_at": at(index),
    }


def _files(index: int) -> Iterator[dict[str, Any]]:
    yield {"commit_id": index + 1, "path": "adapter_config.json", "sha256": CONFIG, "size": 600}
    yield {"commit_id": index + 1, "path": "adapter_model.safetensors", "sha256": sha(f"blob {index}"), "size": 300_000}


def _base_of(index: int) -> int:
    return 0 if index % 1000 else BASES - 1  # the last base is rare


def _version(index: int) -> dict[str, Any]:
    adapter, number = place(index)
    targets = TARGETS[adapter % len(TARGETS)]
    return {
        "id": index + 1,
        "adapter_id": adapter + 1,
        "number": number,
        "digest": digest_of(index),
        "commit": sha(f"commit {index}")[:40],
        "main_position": index + 1,
        "status": "yanked" if index % 100 == 99 else "active",
        "status_reason": None,
        "format": "peft",
        "peft_type": "LORA",
        "rank": RARE_RANK if index % 50_000 == 7 else RANKS[index % len(RANKS)],
        "alpha": 16.0,
        "dtype": "F32",
        "parameters": 73_728,
        "details": {
            "ranks": {},
            "targets": targets,
            "variants": [],
            "base_name": "base",
            "base_revision": None,
            "task_type": None,
        },
        "base_key": fingerprint_of(_base_of(index)),
        "base_name": f"base{_base_of(index)}",
        "base_fingerprint": fingerprint_of(_base_of(index)),
        "base_evidence": "exact",
        "size": 300_600,
        "author": "bench",
        "message": f"train run {index}",
        "metadata": {"learning_rate": "2e-4"},
        "created_at": at(index),
    }


def _targets(index: int) -> Iterator[dict[str, Any]]:
    for target in TARGETS[place(index)[0] % len(TARGETS)]:
        yield {"target": target, "version_id": index + 1}
    if index % 20_000 == 11:
        yield {"target": "lm_head", "version_id": index + 1}


def _words(index: int) -> Iterator[dict[str, Any]]:
    team, name = name_of(place(index)[0])
    words = {team, *name.split("-"), "train", "run", str(index)}
    if index % 10_000 == 5:
        words.add(RARE_TOPIC)
    for word in words:
        yield {"word": word, "version_id": index + 1}


def _version_base(index: int) -> dict[str, Any]:
    return {
        "id": index + 1,
        "version_id": index + 1,
        "name": f"base{_base_of(index)}",
        "fingerprint": fingerprint_of(_base_of(index)),
        "evidence": "exact",
        "actor": "bench",
        "created_at": at(index),
    }


def _evaluation(index: int) -> dict[str, Any]:
    return {
        "id": index // EVERY + 1,
        "version_id": index + 1,
        "dataset": "sst2",
        "dataset_sha256": None,
        "examples_sha256": None,
        "examples_size": None,
        "examples_count": None,
        "actor": "bench",
        "at": at(index),
    }


def _metrics(count: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    for index in range(0, count, EVERY):
        value = int(sha(f"metric {index}")[:8], 16) / 0x1_0000_0000
        for name in ("accuracy", "f1"):
            yield index // EVERY + 1, index + 1, {"name": name, "value": value}
