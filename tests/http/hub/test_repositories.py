"""A repository's facts, files, references and commits, as the Hub's client reads them; and views of it."""

from datetime import UTC, datetime

import pytest
from huggingface_hub import HfApi, RepoFile, RepoFolder
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

from tests.factories import TOY
from tests.http.hub.conftest import SUPPORT, Library

WEIGHTS = "adapter_model.safetensors"
FILES = ["README.md", "adapter_config.json", WEIGHTS, "eval/deep/ü.json", "notes.txt"]
TREE = f"/api/models/{SUPPORT}/tree"


def test_facts_are_those_of_the_revision_and_of_its_card(library: Library) -> None:
    found = library.api.model_info(SUPPORT, files_metadata=True)
    assert (found.id, found.sha, found.author, found.private) == (SUPPORT, library.commits["main"], "acme", True)
    assert found.library_name == "peft" and found.gated is False and found.disabled is False
    assert found.card_data is not None
    card = found.card_data.to_dict()
    assert (card["license"], card["language"], card["trained"]) == ("mit", ["en", "de"], "2026-11-22")
    assert card["base_model"] == TOY, "what the registry has checked goes before what a card says"
    assert found.tags is not None
    assert {"peft", "lora", "help-desk", f"base_model:{TOY}", f"base_model:adapter:{TOY}", "rank:4"} < set(found.tags)
    assert {"target:q_proj", "license:mit", "language:de", "safetensors"} < set(found.tags)
    assert found.config == {
        "peft": {
            "base_model_name_or_path": TOY,
            "task_type": None,
            "peft_type": "LORA",
            "r": 4,
            "target_modules": ["q_proj", "v_proj"],
        }
    }
    assert found.siblings is not None
    assert [file.rfilename for file in found.siblings] == FILES
    sizes = {file.rfilename: (file.size, file.lfs and file.lfs.size) for file in found.siblings}
    assert sizes["notes.txt"] == (0, None) and sizes[WEIGHTS][0] == sizes[WEIGHTS][1]
    assert all(file.size is None for file in library.api.model_info(SUPPORT).siblings or ())
    earlier = library.api.model_info(SUPPORT, revision="production")
    assert earlier.sha == library.commits["v1"] and "help-desk" not in (earlier.tags or ())
    assert earlier.created_at and earlier.last_modified and earlier.created_at <= earlier.last_modified
    only = library.client.get(f"/api/models/{SUPPORT}?expand=sha&expand[]=tags").json()
    assert set(only) == {"id", "modelId", "sha", "tags"}


def test_a_tree_is_listed_as_a_whole_by_folder_and_by_page(library: Library) -> None:
    every = list(library.api.list_repo_tree(SUPPORT, recursive=True))
    assert [entry.path for entry in every] == sorted([*FILES, "eval", "eval/deep"])
    assert {type(entry) for entry in every if entry.path.startswith("eval")} == {RepoFolder, RepoFile}
    assert [entry.path for entry in library.api.list_repo_tree(SUPPORT)] == sorted(
        [*(file for file in FILES if "/" not in file), "eval"]
    )
    assert [entry.path for entry in library.api.list_repo_tree(SUPPORT, "eval/deep")] == ["eval/deep/ü.json"]
    with pytest.raises(EntryNotFoundError):
        list(library.api.list_repo_tree(SUPPORT, "absent"))
    pages, path = [], f"{TREE}/main?recursive=true&limit=3"
    while path:
        answer = library.client.get(path)
        pages.append([entry["path"] for entry in answer.json()])
        url = answer.headers.get("Link", "<>").partition("<")[2].partition(">")[0]
        assert not url or url.startswith(f"{library.server.url}{TREE}/{library.commits['main']}?")
        path = url.removeprefix(library.server.url)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [path for page in pages for path in page] == [entry.path for entry in every]


def test_a_tree_tells_since_when_its_files_are_so(library: Library) -> None:
    for entry in library.api.list_repo_tree(SUPPORT, recursive=True, expand=True):
        expected = {"README.md": "main", WEIGHTS: "v3"}.get(entry.path, "v1")
        assert entry.last_commit is not None and entry.last_commit["oid"] == library.commits[expected], entry.path
    assert entry.last_commit["title"] == "train 1"


def test_named_paths_are_told_of_and_absent_ones_left_out(library: Library) -> None:
    asked = [WEIGHTS, "eval", "absent.txt", "eval/deep/ü.json"]
    found = library.api.get_paths_info(SUPPORT, asked, revision="production", expand=True)
    assert [entry.path for entry in found] == [path for path in asked if path != "absent.txt"]
    weights = found[0]
    assert isinstance(weights, RepoFile) and weights.lfs is not None and weights.lfs.size == weights.size
    assert weights.last_commit is not None and weights.last_commit["oid"] == library.commits["v1"]
    address = f"/api/models/{SUPPORT}/paths-info/main"
    plain = library.client.request("POST", address, json={"paths": asked, "expand": False})
    assert [entry["path"] for entry in plain.json()] == [entry.path for entry in found]
    assert "lastCommit" not in plain.json()[0]
    for body in (b"{", b"[]", b'{"paths": [1]}', b"[" * 5000):
        assert library.client.request("POST", address, body=body).status == 400
    assert library.client.request("POST", address, fields={"expand": "perhaps"}, encode_multipart=False).status == 400


def test_files_and_repositories_exist_or_not(library: Library) -> None:
    api = library.api
    assert api.file_exists(SUPPORT, WEIGHTS) and api.file_exists(SUPPORT, WEIGHTS, revision="v2")
    assert not api.file_exists(SUPPORT, "absent.bin") and not api.file_exists("theirs/hidden", WEIGHTS)
    assert api.repo_exists(SUPPORT) and api.repo_exists("ACME/Support")
    assert not api.repo_exists("theirs/hidden") and not api.repo_exists("acme/absent")
    for revision in ("main", "production", "v1", "v2", library.commits["v2"], "refs/heads/production"):
        assert api.revision_exists(SUPPORT, revision), revision
    for revision in ("v4", "staging", "0" * 40, "a/b"):
        assert not api.revision_exists(SUPPORT, revision), revision
    api.auth_check(SUPPORT)
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check("theirs/hidden")
    with pytest.raises(HfHubHTTPError, match="may not write") as refused:
        api.auth_check(SUPPORT, write=True)
    assert refused.value.response.status_code == 403


def test_aliases_are_branches_and_versions_are_tags(library: Library) -> None:
    found = library.api.list_repo_refs(SUPPORT, include_pull_requests=True)
    commits = library.commits
    assert {ref.name: ref.target_commit for ref in found.branches} == {
        "main": commits["main"],
        "production": commits["v1"],
    }
    assert [(ref.ref, ref.target_commit) for ref in found.tags] == [
        (f"refs/tags/v{number}", commits[f"v{number}"]) for number in (3, 2, 1)
    ]
    assert (found.converts, found.pull_requests) == ([], [])
    assert library.api.list_repo_refs(SUPPORT).pull_requests is None


def test_commits_lead_back_from_a_revision_over_pages(library: Library) -> None:
    found = library.api.list_repo_commits(SUPPORT, formatted=True)
    assert [commit.commit_id for commit in found] == [library.commits[name] for name in ("main", "v3", "v2", "v1")]
    first = found[-1]
    assert (first.title, first.message, first.authors) == ("train 1", "for the <desk>", ["local"])
    assert first.formatted_message == "for the &lt;desk&gt;"
    assert abs((datetime.now(UTC) - first.created_at).total_seconds()) < 600
    assert len(library.api.list_repo_commits(SUPPORT, revision="v2")) == 2
    pages, path = [], f"/api/models/{SUPPORT}/commits/main?limit=3"
    while path:
        answer = library.client.get(path)
        pages.append([commit["id"] for commit in answer.json()])
        url = answer.headers.get("Link", "<>").partition("<")[2].partition(">")[0]
        path = url.removeprefix(library.server.url)
    assert pages == [[commit.commit_id for commit in found[:3]], [found[3].commit_id]]


@pytest.mark.parametrize(("view", "shows"), [("production", "v1"), ("v3", "v3"), ("v2", "v2"), ("main", "main")])
def test_a_view_shows_a_reference_as_its_main(library: Library, view: str, shows: str) -> None:
    name, commit = f"{SUPPORT}.at.{view}", library.commits[shows]
    if view == "main":
        name = SUPPORT
    found = library.api.model_info(name)
    assert (found.id, found.sha) == (name, commit)
    assert library.api.model_info(name, revision=commit).sha == commit
    assert next(iter(library.api.list_repo_tree(name, revision=commit))).path == "README.md"
    assert library.api.get_paths_info(name, WEIGHTS)[0].path == WEIGHTS
    assert library.api.list_repo_commits(name)[0].commit_id == commit
    refs = library.api.list_repo_refs(name)
    assert {ref.name: ref.target_commit for ref in refs.branches}["main"] == commit
    assert library.client.request("HEAD", f"/{name}/resolve/main/{WEIGHTS}").headers["X-Repo-Commit"] == commit
    if view != "main":
        assert (len(refs.branches), refs.tags) == (1, [])
        writer = HfApi(endpoint=library.server.url, token=library.server.client("wil", "acme").token)
        writer.auth_check(SUPPORT, write=True)
        with pytest.raises(HfHubHTTPError, match="only shows"):
            writer.auth_check(name, write=True)
    assert not library.api.repo_exists(f"{SUPPORT}.at.v9") and not library.api.repo_exists("theirs/hidden.at.v1")


@pytest.mark.parametrize("question", ["?blobs=perhaps", "/tree/main?recursive=2", "/tree/main?limit=0"])
def test_a_query_that_makes_no_sense_is_refused(library: Library, question: str) -> None:
    assert library.client.get(f"/api/models/{SUPPORT}{question}").status == 400


def test_a_refusal_reaches_whoever_runs_the_client(library: Library) -> None:
    with pytest.raises(BadRequestError, match="can't be filtered by 'text-generation' here; filters are peft"):
        list(library.api.list_models(filter="text-generation"))
