"""File names that could escape, collide or hide are refused; the files of an adapter are told from the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.errors import InvalidFile
from registry.domain.paths import MAX_FILES, check_path, check_paths, is_kept, path_key, pickled_as, travels

UNSAFE = [
    "", "/etc/passwd", "../x", "a/../b", "a/..", "..", ".", "a/./b", "a//b", "a/", "./a", "a\0b", "a\nb", "a\tb",
    "a\x7fb", "a\x85b", "a\u202eb", "a\u2066b", "a\u200bb",
    "\ufeffa", "a\ud800", "a\\b", "..\\x", "C:x", "c:/x", "C:\\x",
    "con", "CON", "nul.txt", "aux.json", "COM1", "lpt9.safetensors", "com¹", "CONIN$", "a/prn/b", "prn .txt", "a.",
    "a ", " a", "a./b", "a:b", "a*b", "a?b", 'a"b', "a<b", "a>b", "a|b", "x" * 256, "é" * 128,
    "/".join(["abcdefg"] * 200),
    "a/\u2028b", "~/\x1b[31m",
]  # fmt: skip
SAFE = [
    "adapter_config.json", "adapter_model.safetensors", "tokenizer/vocab.txt", ".gitattributes", "a b", "é.md",
    "console.txt", "x" * 255, "...a", "a..b", "com.txt", "%2e%2e/x", "日本語/モデル.json", "~x",
]  # fmt: skip


@pytest.mark.parametrize("path", UNSAFE, ids=ascii)
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidFile) as refused:
        check_path(path)
    assert refused.value.where == "path"
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("path", SAFE, ids=ascii)
def test_an_ordinary_path_is_kept_as_it_is(path: str) -> None:
    assert check_path(path) == path


@given(st.text(max_size=30) | st.text("./\\: aAcoOnN\0", max_size=12))
def test_what_passes_stays_in_its_folder(path: str) -> None:
    try:
        check_path(path)
    except InvalidFile:
        return
    components = path.split("/")
    assert all(component not in {"", ".", ".."} for component in components)
    assert "\\" not in path and path.isprintable()


COLLISIONS = [
    ("a.json", "A.json"), ("é.json", "e\u0301.json"), ("É.json", "é.json"), ("straße", "STRASSE"), ("a/b", "A/b"),
    ("ﬁ.json", "fi.json"), ("a", "a"),
]  # fmt: skip


@pytest.mark.parametrize("pair", COLLISIONS, ids=ascii)
def test_two_names_that_some_file_system_takes_for_one_are_refused(pair: tuple[str, str]) -> None:
    assert path_key(pair[0]) == path_key(pair[1])
    with pytest.raises(InvalidFile, match="same file"):
        check_paths(pair)


@pytest.mark.parametrize("pair", [("a", "a/b"), ("a/b/c", "A"), ("a/b", "a/B/c")])
def test_a_file_that_is_also_a_folder_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidFile, match="also a folder"):
        check_paths(pair)


def test_paths_come_back_sorted() -> None:
    assert check_paths(["b/y", "a", "b/x"]) == ("a", "b/x", "b/y")


def test_more_than_a_thousand_files_are_refused() -> None:
    assert len(check_paths(f"f{n}" for n in range(MAX_FILES))) == MAX_FILES
    with pytest.raises(InvalidFile, match="more than 1000"):
        check_paths(f"f{n}" for n in range(10**9))


@pytest.mark.parametrize(
    "path",
    ["adapter_config.json", "adapter_model.safetensors", "README.md", "sub/tokenizer.model", "LICENSE", "merges.txt",
     "chat_template.jinja", ".gitattributes"],
)  # fmt: skip
def test_the_files_of_an_adapter_are_kept(path: str) -> None:
    assert is_kept(path)


@pytest.mark.parametrize(
    "path",
    ["optimizer.pt", "training_args.bin", "rng_state.pth", "adapter_model.bin", "model.ckpt", "x.pkl", "script.py",
     "checkpoint-10/trainer_state.json", "optimizer.safetensors", "events.out.tfevents.1", "a.so", "a.zip"],
)  # fmt: skip
def test_what_training_leaves_behind_is_not(path: str) -> None:
    assert not is_kept(path)


def test_the_same_files_travel_by_every_way() -> None:
    kept = ["sub/tokenizer.json", ".gitattributes", "adapter_model.bin", "sub/Adapter_Model.PT"]
    left = [
        ".hidden/a.json",
        ".adapter.json",
        "checkpoint-5/adapter_config.json",
        "last-checkpoint/a.json",
        "runs/a.txt",
    ]
    assert [path for path in (*kept, *left) if travels(path)] == kept


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PK\x03\x04" + bytes(12), "zip"),
        (b"\x80\x02}q\x00(X\x01\x00\x00\x00a", "pickle"),
        (b"\x80\x05\x95" + bytes(9), "pickle"),
        (b"\x1f\x8b\x08" + bytes(9), "gzip"),
        (b'\x80\x02\0\0\0\0\0\0{"a":{}', None),
        (b'\x10\0\0\0\0\0\0\0{"a"', None),
        (b"", None),
    ],
)
def test_a_pickle_or_archive_is_known_by_its_first_bytes(head: bytes, kind: str | None) -> None:
    assert pickled_as(head) == kind
