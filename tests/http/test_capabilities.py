"""Capability addresses: good for one purpose, so long, under one secret; and the secret that a server keeps."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from registry.domain.errors import Failure, InvalidSetting
from registry.http.capabilities import Capabilities
from registry.http.secret import FILE, kept_secret
from registry.http.settings import ServerSettings

CLAIMS = {"upload": "upload-1", "part": 3, "token": 7}


def at(now: float, secret: bytes = b"secret") -> Capabilities:
    return Capabilities(secret, clock=lambda: now)


def test_a_capability_says_what_it_was_given_until_its_time_is_over() -> None:
    signed = at(1_000).sign("part", CLAIMS, seconds=60)
    assert at(1_059.9).read("part", signed) == CLAIMS
    for reader, purpose in ((at(1_060), "part"), (at(1_000), "whole"), (at(1_000, b"other"), "part")):
        with pytest.raises(HTTPException) as refused:
            reader.read(purpose, signed)
        assert refused.value.status_code == 403


@given(st.data())
def test_a_changed_capability_is_refused(data: st.DataObject) -> None:
    signed = at(0).sign("part", CLAIMS, seconds=60)
    where = data.draw(st.integers(0, len(signed) - 1))
    other = data.draw(st.sampled_from("AZaz09-_.="))
    changed = signed[:where] + other + signed[where + 1 :]
    try:
        assert at(0).read("part", changed) == CLAIMS  # the last character has bits that mean nothing
    except HTTPException as refused:
        assert refused.status_code == 403


@given(st.text() | st.text("Aa.-_", max_size=3_000))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(HTTPException):
        at(0).read("part", text)


def test_a_secret_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: kept_secret(home), range(8)))
    assert len(found) == 1 and len(found.pop()) >= 32
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == [FILE]
    (home / FILE).chmod(0o644)
    with pytest.raises(Failure, match="read by others"):
        kept_secret(home)


def test_workers_share_a_secret_that_is_set_and_a_short_one_is_refused_without_showing_it() -> None:
    def settings(**environment: str) -> ServerSettings:
        return ServerSettings.from_environment(environment, host="127.0.0.1", port=1)

    assert settings(ADAPTERS_SECRET="x" * 32).secret == b"x" * 32
    assert settings().secret != settings().secret
    assert "secret" not in repr(settings())
    with pytest.raises(InvalidSetting) as refused:
        settings(ADAPTERS_SECRET="hunter2")
    assert "hunter2" not in str(refused.value)
