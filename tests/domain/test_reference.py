"""References read and write the same, and nothing outside their grammar is read."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.errors import InvalidReference
from registry.domain.reference import AdapterName, Reference, Selector, check_alias, serving_name

EDGE = string.ascii_letters + string.digits


def is_name(text: str) -> bool:
    return not (
        ".." in text or "--" in text or ".at." in text or text.lower().endswith(".git")
    )  # fmt: skip


PARTS = (
    st.builds(
        lambda first, middle, last: first + middle + last,
        st.sampled_from(EDGE),
        st.text(EDGE + "._-", max_size=61),
        st.sampled_from(["", *EDGE]),
    )
    .map(lambda part: part.rstrip("._-"))
    .filter(is_name)
)
NAMES = st.builds(AdapterName, PARTS, PARTS)
HEX = "0123456789abcdef"
ALIASES = st.builds(
    lambda first, rest: first + rest, st.sampled_from(string.ascii_letters), PARTS.map(lambda p: p[:62])
).filter(
    lambda alias: (
        is_name(alias)
        and alias[-1] in EDGE
        and alias.lower() not in {"main", "latest", "head"}
        and not alias.lower().startswith("sha256")
        and not (alias[0] in "vV" and alias[1:].isdecimal())
        and not (len(alias) == 40 and set(alias.lower()) <= set(HEX))
    )
)
SELECTORS = st.one_of(
    st.just((Selector.MAIN, "")),
    st.integers(0, 10**18 - 1).map(lambda number: (Selector.VERSION, str(number))),
    st.text(HEX, min_size=40, max_size=40).map(lambda commit: (Selector.COMMIT, commit)),
    st.text(HEX, min_size=12, max_size=64).map(lambda digest: (Selector.DIGEST, digest)),
    ALIASES.map(lambda alias: (Selector.ALIAS, alias)),
)
REFERENCES = st.builds(lambda name, selector: Reference(name, *selector), NAMES, SELECTORS)


@given(REFERENCES)
def test_a_reference_reads_back_as_it_is_written(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=40) | st.text("ab/@v1.-:sha256", max_size=24))
def test_any_text_is_read_and_written_alike_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference as error:
        assert error.reason
        return
    assert Reference.parse(str(reference)) == reference


@given(NAMES)
def test_names_that_differ_in_case_have_one_key(name: AdapterName) -> None:
    assert AdapterName.parse(str(name).swapcase()).key == name.key


@pytest.mark.parametrize(
    ("text", "selector", "value"),
    [
        ("team/name", Selector.MAIN, ""),
        ("team/name@main", Selector.MAIN, ""),
        ("team/name@v3", Selector.VERSION, "3"),
        ("team/name@v007", Selector.VERSION, "7"),
        ("team/name@production", Selector.ALIAS, "production"),
        ("team/name@v3-rc", Selector.ALIAS, "v3-rc"),
        ("team/name@" + "0a" * 20, Selector.COMMIT, "0a" * 20),
        ("team/name@sha256:0123456789ab", Selector.DIGEST, "0123456789ab"),
        ("team/name@sha256-0123456789ab", Selector.DIGEST, "0123456789ab"),
    ],
)
def test_each_kind_of_selector_is_read(text: str, selector: Selector, value: str) -> None:
    reference = Reference.parse(text)
    assert (reference.selector, reference.value) == (selector, value)
    if selector is Selector.VERSION:
        assert reference.number == int(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "/name",
        "team/",
        "team/name@",
        "team/name@@v1",
        "a/b/c",
        "team/-name",
        "team/name-",
        "te..am/name",
        "team/na--me",
        "team/name.git",
        "team/NAME.GIT",
        "team/a.at.b",
        "team/name@sha256:abc",
        "team/name@sha256:" + "g" * 12,
        "team/name@sha256:" + "0" * 65,
        "team/na me",
        "team/näme",
        "team/name\n",
        "team/" + "a" * 64,
        "team/name@1st",
        "team/name@Latest",
        "team/name@HEAD",
        "team/name@sha256foo",
        "team/name@a--b",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as refused:
        Reference.parse(text)
    assert refused.value.text == text


@pytest.mark.parametrize(
    "alias", ["main", "Latest", "HEAD", "v1", "V12", "sha256", "SHA256-x", "0" * 40, "a" * 40, "A" * 40]
)
def test_a_reserved_alias_is_refused(alias: str) -> None:
    with pytest.raises(InvalidReference):
        check_alias(alias)


@given(ALIASES)
def test_an_alias_is_read_as_one(alias: str) -> None:
    assert check_alias(alias) == alias
    assert Reference.parse(f"team/name@{alias}") == Reference(AdapterName("team", "name"), Selector.ALIAS, alias)


def test_a_serving_name_is_a_reference_within_its_team() -> None:
    name = AdapterName("team", "support")
    served = serving_name(name, "ab" * 32)
    assert served == "support@sha256-" + "ab" * 6
    assert Reference.parse(f"team/{served}") == Reference(name, Selector.DIGEST, "ab" * 6)
