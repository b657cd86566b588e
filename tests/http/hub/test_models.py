"""The list of repositories: whose they are, what they are found by, and page by page."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError

from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client, Server, running
from tests.http.hub.conftest import SUPPORT, Library

OURS = ["acme/a", "acme/b", "acme/c", "acme/notes"]


@dataclass(frozen=True)
class Lists:
    """A server with acme's a, b, c and notes (without an adapter), and with theirs/d."""

    server: Server
    client: Client

    def names(self, **asked: Any) -> list[str]:
        api = HfApi(endpoint=self.server.url, token=self.client.token)
        return [model.id for model in api.list_models(**asked)]


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Lists]:
    folder = tmp_path_factory.mktemp("lists")
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    with running(f"sqlite:///{folder}/catalog.db", (folder / "blobs").as_uri()) as server:
        registry = server.registry
        registry.add_base(TOY, toy_base())
        registry.add_base("other/base", toy_base("other"))
        push(server, folder, "acme/a")
        push(server, folder, "acme/b", rank=8)
        push(server, folder, "acme/c", rank=16, base_model_name_or_path="other/base")
        push(server, folder, "theirs/d")
        registry.publish(Submission(AdapterName("acme", "notes"), ()))
        yield Lists(server, server.client("ann", "acme", Role.READER))


def push(server: Server, folder: Path, name: str, *, seed: int = 1, **config: Any) -> None:
    adapter = write_adapter(folder / f"{name}-{seed}", seed=seed, **config)
    server.registry.push_folder(adapter, Submission(AdapterName.parse(name), ()))


def test_what_the_caller_may_read_is_listed_by_name(lists: Lists) -> None:
    assert lists.names() == lists.names(author="acme") == OURS
    assert lists.names(author="theirs") == lists.names(author="nobody") == []


def test_filters_are_base_rank_and_targets(lists: Lists) -> None:
    toy = ["acme/b", "acme/a"]
    assert lists.names(filter=f"base_model:{TOY}") == lists.names(filter=f"base_model:adapter:{TOY}") == toy
    assert lists.names(filter=["peft", "lora", "safetensors", "rank:8..32"]) == ["acme/c", "acme/b"]
    assert lists.names(filter=["rank:16", "base_model:other/base", "target:q_proj"]) == ["acme/c"]
    assert lists.names(filter=["target:q_proj", "target:gate_proj"]) == lists.names(filter="ia3") == []
    assert lists.names(search="b") == ["acme/b"]
    assert lists.names(sort="last_modified") == ["acme/c", "acme/b", "acme/a"]


def test_what_is_not_known_of_a_repository_is_refused_by_name(lists: Lists) -> None:
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
            lists.names(**asked)
    assert lists.names(gated=True) == [] and len(lists.names(gated=False)) == 4


@pytest.mark.parametrize(
    "query", ["author=a%00", "filter=base_model:%00", "cursor=%1b", "full=x", "&".join(["filter=target:q"] * 60)]
)
def test_what_no_client_means_is_refused(library: Library, query: str) -> None:
    assert library.client.get(f"/api/models?{query}").status == 400


def test_pages_follow_each_other_with_the_question_as_it_was(lists: Lists) -> None:
    for query, expected in (
        ("limit=1&author=acme", OURS),
        (f"limit=1&filter=peft&filter=base_model:{TOY}", ["acme/b", "acme/a"]),
    ):
        found, path = [], f"/api/models?{query}"
        while path:
            answer = lists.client.get(path)
            found += [model["id"] for model in answer.json()]
            path = answer.headers.get("Link", "<>").partition("<")[2].partition(">")[0].removeprefix(lists.server.url)
        assert found == expected


def test_a_list_follows_what_main_shows_and_each_repository_is_in_it_once(lists: Lists, tmp_path: Path) -> None:
    registry = lists.server.registry
    for seed in (10, 11, 12):
        push(lists.server, tmp_path, "acme/a", seed=seed)
    assert lists.names(filter="rank:4") == ["acme/a"]
    for reference in ("acme/a@v4", "acme/c@v1"):
        registry.set_status(Reference.parse(reference), Status.YANKED, reason="worse")
    assert (lists.names(filter="rank:4"), lists.names(filter="rank:16")) == (["acme/a"], [])
    registry.delete_adapter(AdapterName("acme", "notes"), reason="empty")
    registry.set_visibility("theirs", public=True)
    found = lists.client.get("/api/models").json()
    assert {line["id"]: line["private"] for line in found} == dict.fromkeys(OURS[:3], True) | {"theirs/d": False}


def test_whole_repositories_come_with_files_and_cards(library: Library) -> None:
    (plain,) = library.api.list_models()
    assert (plain.id, plain.sha, plain.siblings, plain.card_data) == (SUPPORT, None, None, None)
    assert plain.tags and f"base_model:{TOY}" in plain.tags and plain.library_name == "peft"
    (whole,) = library.api.list_models(full=True)
    assert whole.sha == library.commits["main"] and whole.siblings and whole.tags and "help-desk" in whole.tags
    (carded,) = library.api.list_models(cardData=True)
    assert carded.card_data and carded.card_data.license == "mit" and carded.siblings is None
    (chosen,) = library.api.list_models(expand=["sha", "cardData"])
    assert (chosen.sha, chosen.tags) == (whole.sha, None) and chosen.card_data is not None
