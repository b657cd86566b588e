"""diff: facts, and the heat strip of the weights."""

import io
import sys

import pytest
from rich.console import Console

from cli import heat
from tests.cli.conftest import run

SAME = {f"layers.{layer}.{target}": 1.0 for layer in range(4) for target in ("q_proj", "k_proj")}


def lines(cells, width=80):
    """The strip without its legend."""
    return [line.rstrip() for line in heat.strip(cells, width).plain.splitlines()[:-1]]


def test_a_row_is_a_target_and_a_column_a_layer():
    cells = {"l.0.q": 0.95, "l.1.q": -0.31, "l.10.q": 0.04, "l.2.q": None, "l.0.v": "<", "l.2.v": ">", "l.1.v": 1.0}
    header, first, second = lines(cells)
    assert header.split() == ["0", "1", "2", "10"]
    assert first.split() == ["q", "9", "c", "·", "0"]  # layers by number, not by name
    assert second == "v  <  =  >"


@pytest.mark.parametrize(
    ("cosine", "sign"),
    [(1.0, "="), (0.9996, "="), (0.999, "9"), (0.9, "9"), (0.5, "5"), (0.0, "0"), (-0.05, "0"), (-0.1, "a"), (-1, "i")],
)
def test_signs_are_tenths(cosine, sign):
    assert heat.sign(float(cosine)) == sign


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("layers", [1, 7, 32, 80])
def test_every_layer_of_a_deep_model_is_shown_within_the_width(layers, width):
    cells = {f"model.layers.{n}.self_attn.{t}": n / 100 for n in range(layers) for t in ("q_proj", "gate_proj")}
    shown = lines(cells, width)
    assert max(map(len, shown)) <= width
    for target in ("q_proj", "gate_proj"):
        signs = "".join("".join(line.split()[1:]) for line in shown if line.startswith(f"{target} "))
        assert signs == "".join(heat.sign(n / 100) for n in range(layers))


def test_targets_of_one_name_are_told_apart_and_layers_may_have_several_numbers():
    cells = {
        f"{part}.{n}.blocks.{m}.{attn}.to_q": 0.5
        for part in ("up", "down")
        for n in range(2)
        for m in range(2)
        for attn in ("a1", "a2")
    }
    shown = lines(cells)
    assert not shown[0]
    labels = {line.split()[0] for line in shown[1:]}
    assert labels == {f"{part}.*.blocks.*.{attn}.to_q" for part in ("up", "down") for attn in ("a1", "a2")}
    assert all(line.split()[1:] == ["5"] * 4 for line in shown[1:])


def test_a_module_without_a_layer_has_a_column_too():
    assert lines({"classifier": 0.2, "l.0.q": 0.3})[1:] == ["classifier  2", "q              3"]


def colored(cells):
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system="truecolor", width=80).print(heat.strip(cells, 80))
    return stream.getvalue()


def test_colours_say_what_the_signs_say():
    same, opposite, none = (colored({"l.0.q": cosine}) for cosine in (1.0, -1.0, 0.0))
    assert "48;2;255;190;60" in same and "48;2;86;156;255" in opposite and "48;2;44;44;52" in none


def test_diff_shows_a_strip_and_figures_of_the_weights(stocked):
    shown = stocked("diff", "demo/sentiment@v1", "demo/both").out
    assert "\x1b" not in shown
    strip = shown.partition("layer by layer")[2].splitlines()
    assert strip[1].split() == ["0", "1", "2", "3", "4", "5"]
    assert [line.split()[0] for line in strip[2:4]] == ["query", "value"]
    assert strip[-4].split() == ["module", "n", "cosine", "norms", "out", "in"]
    assert strip[-1].split()[:2] == ["all", "12"]


def test_the_document_has_figures_of_every_module(stocked):
    document = stocked("diff", "demo/sentiment@v1", "demo/both", "--json").json
    assert document["weights_left_out"] is None
    assert len(document["weights"]["modules"]) == 12
    module = document["weights"]["modules"]["encoder.layer.0.attention.self.query"]
    assert module.keys() == {"cosine", "norms", "norm_ratio", "overlap"}
    assert module["overlap"]["in"] == pytest.approx(1.0, abs=1e-5)  # the sum's rows hold the parent's
    assert {"left", "right", "facts", "files", "modules"} <= document.keys()


def test_weights_are_left_out_on_request_without_importing_torch(stocked, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    shown = stocked("diff", "demo/sentiment@v1", "demo/wordnet", "--no-weights", "--json").json
    assert shown["weights"] is None and shown["weights_left_out"] is None
    missing = stocked("diff", "demo/sentiment@v1", "demo/wordnet").out
    assert "files that differ" in missing and "the weights were not compared: torch is not installed" in missing


def test_weights_of_other_bases_are_compared_by_nobody(stocked):
    stocked("push", "./gloss", "demo/gloss")
    shown = stocked("diff", "demo/gloss", "demo/wordnet")
    assert "the weights were not compared: different base models" in shown.out
    failed = stocked("diff", "demo/gloss", "demo/wordnet", "--weights", "--json", code=4).error
    assert failed["error"] == "base_conflict"


def test_a_kind_without_a_delta_of_its_own_is_named(stocked, examples):
    stocked("push", str(examples / "minilm-debian-r4-dora-fp16"), "demo/dora")
    assert "not compared: demo/dora@v1: dora" in stocked("diff", "demo/dora", "demo/wordnet").out


def test_contents_that_are_the_same_need_no_strip(stocked):
    run("push", "./wordnet", "demo/copy")
    document = stocked("diff", "demo/wordnet", "demo/copy", "--json").json
    assert document["weights"] is None and document["weights_left_out"] == "the contents are the same"
    assert "not compared" not in stocked("diff", "demo/wordnet", "demo/copy").out
