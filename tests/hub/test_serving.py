"""Serving stacks: vLLM's LoRA resolvers by their own code, from the hub and a folder; the calls of others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import TOY, write_adapter
from tests.http.conftest import Server
from tests.hub.clients import Client
from tests.hub.conftest import WEIGHTS
from tests.hub.environments import VLLM


def test_vllm_resolves_a_view_of_an_alias_and_a_folder(
    hub: Server, new_client: Callable[..., Client], repo: str, folder: Path, tmp_path: Path
) -> None:
    name, shown = AdapterName.parse(repo), f"{repo}.at.production"
    hub.registry.push_folder(folder, Submission(name, (), aliases=("production",)))
    wanted = (folder / WEIGHTS).read_bytes()
    hub.registry.push_folder(write_adapter(folder, seed=1), Submission(name, ()))
    version = hub.registry.find_version(Reference.parse(f"{repo}@production"))
    hub.registry.pull(version, tmp_path / "folders" / "pulled")
    client = new_client(
        VLLM,
        VLLM_PLUGINS="lora_hf_hub_resolver,lora_filesystem_resolver",
        VLLM_LORA_RESOLVER_HF_REPO_LIST=shown,
        VLLM_LORA_RESOLVER_CACHE_DIR=str(tmp_path / "folders"),
    )
    served, place = client.do("serving.resolve", base=TOY, name=shown)
    assert (served, (Path(place) / WEIGHTS).read_bytes()) == (shown, wanted)
    assert client.do("serving.resolve", base="another/base", name=shown) is None
    served, place = client.do("serving.resolve", base=TOY, name="pulled", resolver="Filesystem Resolver")
    assert (served, (Path(place) / WEIGHTS).read_bytes()) == ("pulled", wanted)


@pytest.mark.parametrize("stack", ["sglang", "lorax", "tgi"])
def test_stacks_that_pass_no_revision_fetch_what_a_view_shows(
    stack: str, hub: Server, newest: Client, repo: str, folder: Path
) -> None:
    name = AdapterName.parse(repo)
    hub.registry.push_folder(folder, Submission(name, (), aliases=("production",)))
    wanted = (folder / WEIGHTS).read_bytes()
    hub.registry.push_folder(write_adapter(folder, seed=1), Submission(name, ()))
    place = Path(newest.do(f"stacks.{stack}", repo=f"{repo}.at.production"))
    assert (place / WEIGHTS).read_bytes() == wanted
    assert (place / "adapter_config.json").exists()
