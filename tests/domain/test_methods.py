"""The table of methods: what it accepts, what it fills in, and how it says no."""

import math

import pytest

from registry.domain.errors import InvalidRecipe
from registry.domain.methods import METHODS, find_method, validate


def test_every_default_is_explicit_after_validation() -> None:
    assert validate("lerp", {}, inputs=2) == {"t": 0.5}


def test_every_declared_default_lies_within_its_own_bounds() -> None:
    for method in METHODS.values():
        for parameter in method.parameters:
            if parameter.default is not None:
                assert parameter.read(parameter.default) == parameter.default


def test_every_method_says_its_source_its_summary_and_how_it_is_written() -> None:
    for method in METHODS.values():
        assert method.source and method.summary.endswith(".") and method.revision >= 1
        assert method.is_function == (method.name != "linear")


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRecipe, match=r"'soup'.*linear, lerp, slerp, truncate, given_init, ties") as caught:
        find_method("soup", "root.inputs[1]")
    assert caught.value.where == "root.inputs[1].method"


@pytest.mark.parametrize(
    ("name", "params", "inputs", "where", "reason"),
    [
        ("lerp", {"t": 1.5}, 2, "root.params.t", "t is 1.5, not within 0 and 1"),
        ("lerp", {"t": math.nan}, 2, "root.params.t", "not finite"),
        ("lerp", {"t": 10**400}, 2, "root.params.t", "not finite"),
        ("lerp", {"t": True}, 2, "root.params.t", "t is a number"),
        ("lerp", {"t": "0.5"}, 2, "root.params.t", "t is a number"),
        ("lerp", {"s": 1}, 2, "root.params.s", "no parameter 's'; it has t"),
        ("lerp", {}, 3, "root.inputs", "lerp takes 2 inputs, not 3"),
        ("truncate", {}, 1, "root.params", "one of rank, energy, error, sv_ratio"),
        ("truncate", {"energy": 0.9, "sv_fro": 0.9}, 1, "root.params.sv_fro", "energy and sv_fro exclude each other"),
        ("truncate", {"energy": 1.1}, 1, "root.params.energy", "not within 0 and 1"),
        ("ties", {"sign": "majority"}, 2, "root.params.sign", "sign is one of total, frequency, not 'majority'"),
        ("ties", {"sign": 1}, 2, "root.params.sign", "sign is one of total, frequency"),
        ("ties", {"density": "all"}, 2, "root.params.density", "density is a number"),
        ("ties", {"preset": "mergekit"}, 2, "root.params.preset", "the presets of ties are peft"),
        ("ties", {"preset": 1}, 2, "root.params.preset", "the presets of ties are peft"),
        ("iso_c", {"preset": "peft"}, 2, "root.params.preset", "iso_c has no parameter 'preset'"),
        ("sce", {}, 1, "root.inputs", "sce takes 2 to 256 inputs, not 1"),
        ("truncate", {"rank": 0}, 1, "root.params.rank", "not within 1 and"),
        ("truncate", {"rank": 2.5}, 1, "root.params.rank", "whole number"),
        ("linear", {"weights": [1, 2]}, 3, "root.params.weights", "2 weights for 3 inputs"),
        ("linear", {"weights": [1, math.inf]}, 2, "root.params.weights", "not finite"),
        ("linear", {"weights": 1.0}, 1, "root.params.weights", "list of numbers"),
        ("linear", {"weights": []}, 0, "root.inputs", "1 to 256 inputs, not 0"),
    ],
)
def test_what_breaks_a_bound_is_refused_at_its_place(
    name: str, params: dict[str, object], inputs: int, where: str, reason: str
) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        validate(name, params, inputs=inputs)
    assert caught.value.where == where
    assert reason in caught.value.reason


def test_a_whole_float_is_a_rank_and_a_negative_zero_is_zero() -> None:
    assert validate("truncate", {"rank": 16.0}, inputs=1) == {"rank": 16}
    assert repr(validate("linear", {"weights": [-0.0]}, inputs=1)["weights"]) == "(0.0,)"


def test_an_option_that_nobody_gave_is_absent_and_a_rank_may_bound_a_rule() -> None:
    assert validate("truncate", {"rank": 4}, inputs=1) == {"rank": 4}
    assert validate("truncate", {"energy": 0.9, "rank": 4}, inputs=1) == {"rank": 4, "energy": 0.9}
    assert "rank" not in validate("ties", {}, inputs=2)


def test_a_preset_is_the_options_that_it_stands_for_and_yields_to_what_is_given() -> None:
    written = {"elect": "peft", "normalise": "count", "lambda": 1.0, "density": 0.3}
    assert validate("ties", {"preset": "peft", "density": 0.3}, inputs=2) == validate("ties", written, inputs=2)
    assert validate("ties", {"preset": "peft", "normalise": "none"}, inputs=2)["normalise"] == "none"


def test_every_alternative_and_every_option_of_a_preset_is_a_parameter() -> None:
    for method in METHODS.values():
        names = {parameter.name for parameter in method.parameters}
        assert {*method.needed, *method.exclusive}.union(*method.presets.values()) <= names
