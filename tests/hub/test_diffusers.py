"""diffusers loads an adapter from the registry onto a tiny model that is made on the spot."""

from collections.abc import Callable
from pathlib import Path

from registry.domain.reference import AdapterName
from tests.http.conftest import Server
from tests.hub.clients import Client
from tests.hub.environments import DIFFUSERS


def test_diffusers_loads_what_it_saved(
    hub: Server, new_client: Callable[..., Client], repo: str, tmp_path: Path
) -> None:
    client = new_client(DIFFUSERS)
    deltas = client.do("diffusion.save", folder=tmp_path / "adapter")
    client.do("hub.upload", repo=repo, folder=tmp_path / "adapter")
    assert [version.number for version in hub.registry.versions(AdapterName.parse(repo)).items] == [1]
    assert len(deltas) > 10
    for way in ("load_into_pipeline", "load_into_model"):
        for name, revision in ((repo, "v1"), (f"{repo}.at.v1", None)):
            assert client.do(f"diffusion.{way}", repo=name, revision=revision) == deltas, (way, name)
