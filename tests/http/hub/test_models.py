"""The list of repositories: whose they are, what they are found by, and page by page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError

from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Server
from tests.http.hub.conftest import SUPPORT, Library

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)


@pytest.fixture
def api(server: Server, tmp_path: Path) -> Iterator[HfApi]:
    """acme has a, b, c and notes (without an adapter); theirs has d."""
    registry, folder = server.registry, tmp_path
    registry.add_base("other/base", toy_base("other"))
    for seed, (name, config) in enumerate(
        {
            "acme/a": {},
            "acme/b": {"rank": 8},
            "acme/c": {"base_model_name_or_path": "other/base", "rank": 16},
            "theirs/d": {},
        }.items()
    ):
        path = write_adapter(folder / str(seed), seed=seed, **config)
        registry.push_folder(path, Submission(AdapterName.parse(name), ()))
    registry.publish(Submission(AdapterName("acme", "notes"), ()))
    yield HfApi(endpoint=server.url, token=server.client("ann", "acme", Role.READER).token)


def names(api: HfApi, **asked: object) -> list[str]:
    return [model.id for model in api.list_models(**asked)]  # type: ignore[arg-type]


def test_what_the_caller_may_read_is_listed_by_name(api: HfApi, server: Server) -> None:
    ours = ["acme/a", "acme/b", "acme/c", "acme/notes"]
    assert names(api) == names(api, author="acme") == ours
    assert names(api, author="theirs") == names(api, author="nobody") == []
    server.registry.set_visibility("theirs", public=True)
    found = {model.id: model.private for model in api.list_models()}
    assert found == dict.fromkeys(ours, True) | {"theirs/d": False}
    server.registry.delete_adapter(AdapterName("acme", "notes"), reason="empty")
    assert names(api, author="acme") == ours[:3]


def test_filters_are_base_rank_and_targets_of_what_main_shows(api: HfApi, server: Server) -> None:
    assert (
        names(api, filter=f"base_model:{TOY}") == names(api, filter=f"base_model:adapter:{TOY}") == ["acme/b", "acme/a"]
    )
    assert names(api, filter=["peft", "lora", "safetensors", "rank:8..32"]) == ["acme/c", "acme/b"]
    assert names(api, filter=["rank:16", "base_model:other/base", "target:q_proj"]) == ["acme/c"]
    assert names(api, filter=["target:q_proj", "target:gate_proj"]) == names(api, filter="ia3") == []
    assert names(api, search="b") == ["acme/b"]
    assert names(api, sort="last_modified") == ["acme/c", "acme/b", "acme/a"]
    server.registry.set_status(Reference.parse("acme/c@v1"), Status.YANKED, reason="worse")
    assert names(api, filter="rank:16") == []


def test_each_repository_is_listed_once_however_many_versions_fit(api: HfApi, server: Server, tmp_path: Path) -> None:
    for seed in range(10, 13):
        path = write_adapter(tmp_path / str(seed), seed=seed)
        server.registry.push_folder(path, Submission(AdapterName("acme", "a"), ()))
    assert names(api, filter="rank:4") == ["acme/a"]
    server.registry.set_status(Reference.parse("acme/a@v4"), Status.YANKED, reason="worse")
    assert names(api, filter="rank:4") == ["acme/a"]


def test_what_is_not_known_of_a_repository_is_refused_by_name(api: HfApi) -> None:
    for asked in (
        {"filter": "license:mit"},
        {"filter": "base_model:finetune:x"},
        {"filter": ["rank:8", "rank:16"]},
        {"filter": "rank:x"},
        {"pipeline_tag": "text-generation"},
        {"sort": "downloads"},
        {"num_parameters": "min:1B"},
    ):
        with pytest.raises(BadRequestError, match=r"here|one too many"):
            names(api, **asked)
    assert names(api, gated=True) == [] and len(names(api, gated=False)) == 4


@pytest.mark.parametrize(
    "query", ["author=a%00", "filter=base_model:%00", "cursor=%1b", "full=x", "&".join(["filter=target:q"] * 60)]
)
def test_what_no_client_means_is_refused(library: Library, backend: str, query: str) -> None:
    assert library.client.get(f"/api/models?{query}").status == 400


def test_pages_follow_each_other_with_the_question_as_it_was(api: HfApi, server: Server) -> None:
    client = server.client("ann", "acme", Role.READER)
    for query, expected in (
        ("limit=1&author=acme", ["acme/a", "acme/b", "acme/c", "acme/notes"]),
        (f"limit=1&filter=peft&filter=base_model:{TOY}", ["acme/b", "acme/a"]),
    ):
        found, path = [], f"/api/models?{query}"
        while path:
            answer = client.get(path)
            found += [model["id"] for model in answer.json()]
            path = answer.headers.get("Link", "<>").partition("<")[2].partition(">")[0].removeprefix(server.url)
        assert found == expected


def test_whole_repositories_come_with_files_and_cards(library: Library, backend: str) -> None:
    (plain,) = library.api.list_models()
    assert (plain.id, plain.sha, plain.siblings, plain.card_data) == (SUPPORT, None, None, None)
    assert plain.tags and f"base_model:{TOY}" in plain.tags and plain.library_name == "peft"
    (whole,) = library.api.list_models(full=True)
    assert whole.sha == library.commits["main"] and whole.siblings and whole.tags and "help-desk" in whole.tags
    (carded,) = library.api.list_models(cardData=True)
    assert carded.card_data and carded.card_data.license == "mit" and carded.siblings is None
    (chosen,) = library.api.list_models(expand=["sha", "cardData"])
    assert (chosen.sha, chosen.tags) == (whole.sha, None) and chosen.card_data is not None
