"""Tokens on disk: for one origin each, in a file that is nobody else's business."""

import stat

import pytest

from cli.remote.keyring import Keyring
from cli.remote.origin import origin_of, server_url
from registry.domain.errors import Failure, InvalidSetting


def test_a_token_is_found_for_its_exact_origin_only(tmp_path):
    ring = Keyring(tmp_path / "home")
    ring.keep(origin_of("https://registry.example/path"), "adp_a")
    assert ring.token(origin_of("https://REGISTRY.example:443")) == "adp_a"
    for other in ("http://registry.example", "https://registry.example:8443", "https://registry.example.evil"):
        assert ring.token(origin_of(other)) is None


def test_the_file_is_readable_by_its_owner_only(tmp_path):
    ring = Keyring(tmp_path)
    ring.keep("http://localhost:1", "adp_a")
    ring.keep("http://localhost:2", "adp_b")
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.json"]


def test_a_file_that_others_can_read_is_refused(tmp_path):
    ring = Keyring(tmp_path)
    ring.keep("http://localhost:1", "adp_a")
    ring.path.chmod(0o640)
    with pytest.raises(Failure, match="can be read by others"):
        ring.token("http://localhost:1")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"http://a:1": 3}'])
def test_a_broken_file_is_named(tmp_path, text):
    ring = Keyring(tmp_path)
    ring.path.write_text(text)
    ring.path.chmod(0o600)
    with pytest.raises(Failure, match=r"tokens\.json"):
        ring.token("http://a:1")


def test_forgetting_says_whether_there_was_one(tmp_path):
    ring = Keyring(tmp_path)
    ring.keep("http://localhost:1", "adp_a")
    assert ring.forget("http://localhost:1")
    assert not ring.forget("http://localhost:1")
    assert ring.token("http://localhost:1") is None


@pytest.mark.parametrize(
    "url",
    [
        "registry.example",
        "ftp://a",
        "https://",
        "https://u:p@a",
        "https://a?b=c",
        "https://a#b",
        "http://a b",
        "http://a:99999",
        "http://a\n.b",
        "http://ä.example",
    ],
)
def test_what_is_no_servers_address_is_refused(url):
    with pytest.raises(InvalidSetting):
        server_url("URL", url)


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(InvalidSetting) as caught:
        server_url("URL", "https://user:secret@registry.example")
    assert "secret" not in caught.value.message
