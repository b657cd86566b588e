"""The examples of the help, on an embedded registry and against a server: the same documents come out.

What takes torch is left to the modules that run twice as a whole (conftest.BOTH): here it would only be slow.
"""

import json
import shlex
import shutil
from typing import Any

import pytest

from tests.cli.conftest import run
from tests.cli.test_help import EXAMPLES

HEAVY = {"blend", "merge", "extract", "verify-merge", "convert", "diff"}
LOCAL = {"verify", "repair", "migrate", "worker", "logout", "completion", "version"}  # of this machine's own files
DIFFERS = ("url", "used_at")  # a file's address, and whether the token that asks was used before
LIGHT = [example for example in EXAMPLES if shlex.split(example)[1] not in HEAVY | LOCAL]


def shape(value: Any) -> Any:
    """What a document is made of, but for the values; a list is as its items together."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key not in DIFFERS}
    if isinstance(value, list):
        return sorted({json.dumps(shape(item), sort_keys=True) for item in value})
    return type(value).__name__


@pytest.mark.parametrize("example", LIGHT)
def test_a_server_answers_what_an_embedded_registry_does(example, stocked, filled, house, desk, tmp_path, monkeypatch):
    arguments = (*shlex.split(example)[1:], "--json")
    shutil.copytree(desk, tmp_path / "other", symlinks=True)
    shutil.copytree(filled, tmp_path / "served")
    embedded = stocked(*arguments)
    monkeypatch.chdir(tmp_path / "other")
    monkeypatch.setenv("ADAPTERS_TOKEN", house.move_in(tmp_path / "served"))
    monkeypatch.setenv("ADAPTERS_REGISTRY", house.url)
    monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path / "client"))
    try:
        served = run(*arguments)
    finally:
        house.move_out()
    assert shape(served.json) == shape(embedded.json)
    assert not (tmp_path / "client").exists()
