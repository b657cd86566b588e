"""The rules about engines, row by row."""

import re

import pytest

from registry.domain.engines import FILES, MOVING, RULES, Engine, Rule, compatibility, engine_of
from registry.domain.errors import UnknownEngine
from registry.domain.spec import AdapterSummary


def summary(*variants: str, format: str = "peft", rank: int = 16, kind: str = "LORA") -> AdapterSummary:
    return AdapterSummary(format, kind, rank, 32.0, {}, ("q_proj",), variants, "BF16", 1000)


def loadable(engine: Engine) -> str:
    return FILES[engine].format


@pytest.mark.parametrize("engine", list(Engine))
def test_a_plain_adapter_in_the_engines_format_is_served(engine: Engine) -> None:
    found = compatibility(summary(format=loadable(engine)), engine)
    assert found.ok
    assert found.document() == {"engine": engine.value, "ok": True, "reasons": []}


@pytest.mark.parametrize("engine", list(Engine))
def test_a_format_that_an_engine_doesnt_load_is_told_with_the_way_to_convert_it(engine: Engine) -> None:
    (reason,) = compatibility(summary(format="kohya"), engine).reasons
    assert reason.startswith("format: ")
    assert f"adapters convert PATH OUT --to {loadable(engine)}" in reason


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.engine}-{rule.variant}")
def test_each_rule_decides_about_its_variant(rule: Rule) -> None:
    found = compatibility(summary(rule.variant, format=loadable(rule.engine)), rule.engine)
    expected = (f"{rule.variant}: {rule.refused} ({rule.source})",) if rule.refused else ()
    assert found.reasons == expected


def test_every_rule_names_a_source_and_no_two_contradict_each_other() -> None:
    assert len({(rule.engine, rule.variant) for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.search(r"\.(py|cpp)\b|https://|PEFT", rule.source), rule


@pytest.mark.parametrize("engine", list(Engine))
def test_what_an_engine_is_not_known_to_apply_counts_against_it(engine: Engine) -> None:
    found = compatibility(summary("unknown:frobnicate", format=loadable(engine)), engine)
    assert [reason.partition(" (")[0] for reason in found.reasons] == [
        f"unknown:frobnicate: {engine} is not known to apply it"
    ]


def test_how_a_base_is_stored_doesnt_matter_for_serving() -> None:
    assert all(compatibility(summary("fan_in_fan_out", format=loadable(e)), e).ok for e in Engine)


@pytest.mark.parametrize(("rank", "ok"), [(8, True), (512, True), (513, False)])
def test_vllm_serves_ranks_up_to_its_largest_choice(rank: int, ok: bool) -> None:
    assert compatibility(summary(rank=rank), Engine.VLLM).ok is ok
    assert compatibility(summary(rank=rank), Engine.SGLANG).ok


def test_no_engine_serves_what_was_trained_on_a_changed_base_or_is_no_lora() -> None:
    for engine in Engine:
        assert not any(compatibility(summary(v, format=loadable(engine)), engine).ok for v in MOVING)
        assert not compatibility(summary(format=loadable(engine), kind="LOHA"), engine).ok


def test_every_reason_is_told_at_once() -> None:
    found = compatibility(summary("dora", "modules_to_save", format="diffusers", rank=1024), Engine.VLLM)
    assert [reason.partition(":")[0] for reason in found.reasons] == ["format", "rank", "dora", "modules_to_save"]


def test_an_engine_is_found_in_any_case_and_an_unknown_one_is_refused_with_the_known_ones() -> None:
    assert engine_of("vLLM") is Engine.VLLM
    with pytest.raises(UnknownEngine) as refused:
        engine_of("ollama")
    assert "llama.cpp" in refused.value.hint
