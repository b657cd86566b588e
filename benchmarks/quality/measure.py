"""Runs the comparison: options chosen on dev, then everything once on test. The result is a JSON value."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.quality.arms import NAMES, TASKS, Arm, Ours, Theirs
from benchmarks.quality.paired import Outcome, accuracies, difference
from benchmarks.quality.rows import THREE, TWO, Blend, Options, Row
from benchmarks.quality.scoring import Pool

WEIGHTS = (1.0, 0.8, 0.6)
STEPS = tuple(step / 10 for step in range(11))
SUBTRACTIONS: tuple[tuple[str, Theirs | None], ...] = (
    ("", None),
    ("s", None),
    ("s + w + g", Theirs("cat", (("s", 1.0), ("w", 1.0), ("g", 1.0)))),
    ("s + w + g - s", Theirs("cat", (("s", 1.0), ("w", 1.0), ("g", 1.0), ("s", -1.0)))),
    ("s + w - s", Theirs("linear", (("s", 1.0), ("w", 1.0), ("s", -1.0)))),
    ("ties(s, w, rank=16) - s", None),
    ("w - s", Theirs("cat", (("w", 1.0), ("s", -1.0)))),
    ("-0.5*s", Theirs("linear", (("s", -0.5),))),
    ("-s", Theirs("linear", (("s", -1.0),))),
)


def measure(pool: Pool) -> dict[str, Any]:
    """Single parents, two and three of them merged, subtraction, interpolation."""
    return {
        "adapters": dict(NAMES),
        "single": _single(pool),
        "two": _table(pool, Blend(("s", "w")), TWO),
        "interpolation": _interpolation(pool),
        "subtraction": _subtraction(pool),
        "three": _table(pool, Blend(("s", "w", "g"), _weight(pool, ("s", "w", "g"))), THREE),
    }


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _single(pool: Pool) -> dict[str, Mapping[str, float]]:
    """{parent, or `` for the base: {task: accuracy}}."""
    found = pool.score([Ours(name) for name in ("", *NAMES)], list(TASKS.values()), "test")
    return {arm.expression: accuracies([outcome]) for arm, outcome in found.items() if isinstance(arm, Ours)}


def _weight(pool: Pool, parents: tuple[str, ...]) -> float:
    """The weight of each parent at which their exact sum is best on dev; one for all methods, ours and PEFT's."""
    arms = {weight: Ours(Blend(parents, weight).fields["sum"]) for weight in WEIGHTS}
    found = pool.score(list(arms.values()), [TASKS[name] for name in parents], "dev")
    return max(WEIGHTS, key=lambda weight: found[arms[weight]].mean)


# -- tables -----------------------------------------------------------------------------------------------------------


def _table(pool: Pool, blend: Blend, rows: Sequence[Row]) -> dict[str, Any]:
    tasks = [TASKS[name] for name in blend.parents]
    _say(f"{blend.fields['inputs']}: choosing options on dev")
    dev = pool.score(
        [arm for row in rows for options in _tried(row) for arm in _pair(row, blend, options)], tasks, "dev"
    )
    chosen = [max(row.grid, key=lambda options: _dev_mean(row, blend, options, dev)) for row in rows]
    _say(f"{blend.fields['inputs']}: test")
    arms = [
        arm
        for row, options in zip(rows, chosen, strict=True)
        for seed in row.seeds
        for arm in _pair(row, blend, options, seed)
    ]
    test = pool.score(arms, tasks, "test")
    whole = [test[Ours(blend.fields["sum"])]]
    lines = [_line(row, blend, options, test, whole) for row, options in zip(rows, chosen, strict=True)]
    for line, row in zip(lines, rows, strict=True):
        line["dev"] = [
            {**options, **{str(arm): dev[arm].mean for arm in _pair(row, blend, options)}} for options in _tried(row)
        ]
    return {"parents": blend.parents, "weight": blend.weight, "tasks": tasks, "rows": lines}


def _tried(row: Row) -> Sequence[Options]:
    """The options that need a dev score: none where there is no choice."""
    return row.grid if len(row.grid) > 1 else ()


def _pair(row: Row, blend: Blend, options: Options, seed: int = 0) -> list[Arm]:
    """Ours, and PEFT's if there is one."""
    return [row.ours(blend, options, seed), *([row.theirs(blend, options, seed)] if row.peft else [])]


def _dev_mean(row: Row, blend: Blend, options: Options, dev: Mapping[Arm, Outcome]) -> float:
    """What options are chosen by: the mean of both sides, so that neither has the advantage of the choice."""
    return statistics.fmean(dev[arm].mean for arm in _pair(row, blend, options)) if _tried(row) else 0.0


def _line(
    row: Row, blend: Blend, options: Options, test: Mapping[Arm, Outcome], whole: Sequence[Outcome]
) -> dict[str, Any]:
    ours = [test[row.ours(blend, options, seed)] for seed in row.seeds]
    line: dict[str, Any] = {
        "method": row.method,
        "expression": row.ours(blend, options).expression,
        "options": dict(options),
        "seeds": len(row.seeds),
        "rank": row.rank,
        "accuracy": accuracies(ours),
        "kept": None if ours[0].kept is None else statistics.fmean(run.kept or 0.0 for run in ours),
        "against_sum": _compared(ours, whole),
    }
    if row.peft:
        theirs = [test[row.theirs(blend, options, seed)] for seed in row.seeds]
        line["peft"] = {"kind": row.peft, "accuracy": accuracies(theirs), **_compared(ours, theirs)}
    return line


def _compared(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> dict[str, Any]:
    found = difference(ours, theirs)
    return {"difference": found.value, "standard_error": found.error, "is_worse": found.is_worse}


# -- subtraction and interpolation ------------------------------------------------------------------------------------


def _subtraction(pool: Pool) -> list[dict[str, Any]]:
    _say("subtraction")
    arms = [arm for text, peft in SUBTRACTIONS for arm in (Ours(text), peft) if arm]
    found = pool.score(arms, list(TASKS.values()), "test")
    return [
        {
            "expression": text,
            "accuracy": accuracies([found[Ours(text)]]),
            "peft": {"kind": peft.kind, "accuracy": accuracies([found[peft]])} if peft else None,
        }
        for text, peft in SUBTRACTIONS
    ]


def _interpolation(pool: Pool) -> dict[str, Any]:
    _say("interpolation")
    curves: dict[str, list[Arm]] = {
        "lerp": [Ours(f"lerp(s, w, t={t})") for t in STEPS],
        "slerp": [Ours(f"slerp(s, w, t={t})") for t in STEPS],
        "PEFT linear": [Theirs("linear", (("s", round(1 - t, 6)), ("w", t))) for t in STEPS],
    }
    tasks = [TASKS["s"], TASKS["w"]]
    found = pool.score([arm for arms in curves.values() for arm in arms], tasks, "test")
    scores = {
        name: {task: [found[arm].accuracy(task) for arm in arms] for task in tasks} for name, arms in curves.items()
    }
    return {"t": STEPS, "tasks": tasks, "curves": scores}
