"""diffusers' own loader gets from the files that we write the deltas that PEFT computes from the originals."""

import warnings
from pathlib import Path

import pytest

from composition.convert import convert

pytest.importorskip("diffusers", reason="`make test-peers` installs it in an environment of its own")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from tests.peers.image_models import FAMILIES, Deltas, deltas_of, save_adapters

pytestmark = pytest.mark.filterwarnings("default")  # the peers' own warnings are not ours to mend

RANKS = {"rank_pattern": {"to_v": 2, "v_proj": 2}, "alpha_pattern": {"to_q": 4, "q_proj": 4}}


def loaded(family: str, path: Path) -> Deltas:
    """What diffusers adds to its models after it loaded a file."""
    pipeline = FAMILIES[family].pipeline()
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="ours")
    found: Deltas = {}
    for component in FAMILIES[family].targets:
        found |= deltas_of(getattr(pipeline, component), component)
    return found


def assert_same(found: Deltas, wanted: Deltas) -> None:
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert float((found[name] - delta).norm()) <= 2e-6 * float(delta.norm()), name
        assert delta.any(), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("patterns", [{}, RANKS], ids=["one rank", "ranks and alphas that differ"])
def test_diffusers_reads_our_diffusers_files(family: str, patterns: dict[str, object], tmp_path: Path) -> None:
    wanted = save_adapters(FAMILIES[family], tmp_path / "peft", patterns)
    convert(tmp_path / "peft", tmp_path / "ours.safetensors", "diffusers")
    assert_same(loaded(family, tmp_path / "ours.safetensors"), wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_reads_our_kohya_files_of_one_rank_and_alpha(family: str, tmp_path: Path) -> None:
    wanted = save_adapters(FAMILIES[family], tmp_path / "peft", {})
    convert(tmp_path / "peft", tmp_path / "ours.safetensors", "kohya")
    assert_same(loaded(family, tmp_path / "ours.safetensors"), wanted)


def test_diffusers_is_wrong_about_alphas_that_differ_in_kohyas_files(tmp_path: Path) -> None:
    """docs/formats.md says so; the day this fails, it should say something else."""
    family = "Stable Diffusion 1.5"
    wanted = save_adapters(FAMILIES[family], tmp_path / "peft", RANKS)
    convert(tmp_path / "peft", tmp_path / "ours.safetensors", "kohya")
    found = loaded(family, tmp_path / "ours.safetensors")
    assert found.keys() == wanted.keys()
    off = max(float((found[name] - delta).norm() / delta.norm()) for name, delta in wanted.items())
    assert off > 0.1
