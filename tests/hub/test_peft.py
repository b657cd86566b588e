"""PEFT pushes and loads adapters of a real, small base by version, alias and commit."""

import pytest

from registry.domain.records import Evidence
from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import EXAMPLES, minilm_folder
from tests.http.conftest import Server
from tests.hub.clients import Client, ClientError
from tests.hub.conftest import WEIGHTS
from tests.hub.wire import Wire

SENTIMENT, WORDNET = EXAMPLES / "minilm-sentiment-r8", EXAMPLES / "minilm-wordnet-r8"


def test_an_adapter_is_pushed_and_loaded_by_version_alias_and_commit(minilm: Server, newest: Client, repo: str) -> None:
    base = minilm_folder()
    for folder in (SENTIMENT, WORDNET):
        newest.do("peft.push", base=base, adapter=folder, repo=repo)
    first, second = (minilm.registry.find_version(Reference.parse(f"{repo}@v{number}")) for number in (1, 2))
    assert {first.base.evidence, second.base.evidence} == {Evidence.STRUCTURAL}
    minilm.registry.promote(Reference.parse(first.reference), "production")
    wanted = [newest.do("peft.load", base=base, adapter=folder) for folder in (SENTIMENT, WORDNET)]
    assert wanted[0] != wanted[1]
    loaded = {
        revision: newest.do("peft.load", base=base, adapter=repo, revision=revision)
        for revision in ("v2", "production", first.commit, None)
    }
    assert loaded == {"v2": wanted[1], "production": wanted[0], first.commit: wanted[0], None: wanted[1]}
    assert newest.do("peft.load", base=base, adapter=f"{repo}.at.production") == wanted[0]


def test_a_cached_adapter_is_loaded_by_commit_with_the_one_request_that_peft_insists_on(
    minilm: Server, newest: Client, wire: Wire, repo: str
) -> None:
    pushed = minilm.registry.push_folder(SENTIMENT, Submission(AdapterName.parse(repo), ()))
    newest.do("peft.load", base=minilm_folder(), adapter=repo, revision=pushed.commit)
    wire.requests.clear()
    newest.do("peft.load", base=minilm_folder(), adapter=repo, revision=pushed.commit)
    assert wire.requests == [f"HEAD /{repo}/resolve/{pushed.commit}/{WEIGHTS}"]


def test_a_base_that_isnt_here_is_refused_with_what_to_do(newest: Client) -> None:
    with pytest.raises(ClientError) as refused:
        newest.do("peft.load_base", name="somebody/base-7b")
    assert "OSError" in refused.value.kinds
    assert "base model" in refused.value.text


def test_a_published_base_is_loaded_by_its_name_and_adapted(minilm: Server, newest: Client) -> None:
    name = AdapterName.parse("team/minilm")
    minilm.registry.publish_base(minilm_folder(), Submission(name, ()))
    minilm.registry.push_folder(SENTIMENT, Submission(AdapterName.parse("team/of-it"), ()))
    here = newest.do("peft.load", base=minilm_folder(), adapter=SENTIMENT)
    assert newest.do("peft.load", base=str(name), adapter="team/of-it", revision="v1") == here
