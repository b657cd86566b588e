"""The one table of composition methods: names, parameters, bounds, defaults and revisions.

Everything that reads a recipe (the expression language, recipe files, the command line, the server) takes its rules
from here. It knows no tensors: how a method is computed is `composition`'s business. A method's `revision` is part of
every recipe digest; it goes up when the same inputs would give other numbers.
"""

from collections.abc import Mapping
from types import MappingProxyType

from registry.domain.errors import InvalidRecipe
from registry.domain.method import Method, Parameter, Value, choice

MAX_INPUTS = 256


_LARGEST = 1.7976931348623157e308
_LARGEST_RANK = 65536
_SHARES = ("energy", "error", "sv_ratio", "sv_cumulative", "sv_fro")


def _share(name: str, default: float | None, summary: str) -> Parameter:
    return Parameter(name, "float", 0.0, 1.0, default, summary, optional=default is None)


def _rank(summary: str) -> Parameter:
    return Parameter("rank", "int", 1, _LARGEST_RANK, None, summary, optional=True)


_DENSITY = _share("density", 0.5, "the share of a delta's elements that is kept, the largest ones")
_DROP = _share("drop", 0.5, "the chance of an element to be dropped")
_RESCALE = choice("rescale", "yes", ("no",), "divide what is kept by its chance of being kept")
_SEED = Parameter("seed", "int", 0, 2**32 - 1, 0, "picks the random mask; the same on every device")
_LAMBDA = Parameter("lambda", "float", -1e6, 1e6, 1.0, "a factor on the result")
_FITTED = _rank("the largest rank of the result; the sum of the inputs' ranks if it isn't given")
_CONSENSUS = (
    choice("sign", "total", ("frequency",), "elect an element's sign by the sum of its values, or by counting signs"),
    choice(
        "elect", "weighted", ("peft",), "vote with the weights, and a draw keeps nothing; or without, and a draw is +"
    ),
    choice(
        "normalise", "count", ("weights", "none"), "divide a sum by the inputs that agree, by their weights, or not"
    ),
)
_PEFT: Mapping[str, Mapping[str, Value]] = {"peft": {"elect": "peft", "normalise": "count", "lambda": 1.0}}

_TABLE = (
    Method(
        name="linear",
        revision=1,
        arity=(1, MAX_INPUTS),
        parameters=(Parameter("weights", "weights", -_LARGEST, _LARGEST, None, "one factor per input"),),
        commutative=True,
        written="0.7*A + 0.3*B - 0.5*C",
        summary="The weighted sum of the deltas, exact: the ranks add up.",
        source="task arithmetic, arXiv 2212.04089, section 2",
    ),
    Method(
        name="lerp",
        revision=1,
        arity=(2, 2),
        parameters=(Parameter("t", "float", 0.0, 1.0, 0.5, "0 is the first input, 1 the second"),),
        commutative=False,
        written="lerp(A, B, t=0.5)",
        summary="Linear interpolation (1 - t)*A + t*B, exact: the ranks add up.",
        source="model soups, arXiv 2203.05482, for two models",
    ),
    Method(
        name="slerp",
        revision=1,
        arity=(2, 2),
        parameters=(_share("t", 0.5, "0 is the first input, 1 the second"),),
        commutative=False,
        written="slerp(A, B, t=0.5)",
        summary="Interpolation along the arc between each module's two deltas, exact; linear where they are parallel.",
        source="Shoemake 1985, on each whole delta as one vector",
    ),
    Method(
        name="truncate",
        revision=2,  # of a delta of full rank: no more values than the rule needs
        arity=(1, 1),
        parameters=(
            _rank("the largest rank that a module keeps"),
            _share("energy", None, "the share of the squared norm to keep"),
            _share("error", None, "the largest relative error, in the Frobenius norm"),
            Parameter(
                "sv_ratio", "float", 1.0, 1e12, None, "keep values over the largest divided by this", optional=True
            ),
            _share("sv_cumulative", None, "the share of the sum of singular values to keep"),
            _share("sv_fro", None, "the share of the Frobenius norm to keep"),
        ),
        commutative=False,
        written="truncate(A, rank=16)",
        summary="The best approximation of each module's delta of a rank, or of the least rank that keeps enough.",
        source="Eckart and Young 1936; Mirsky 1960; the sv_ rules of kohya sd-scripts, networks/resize_lora.py",
        needed=("rank", *_SHARES),
        exclusive=_SHARES,
    ),
    Method(
        name="given_init",
        revision=1,
        arity=(2, 2),
        parameters=(),
        commutative=False,
        written="given_init(A, A0)",
        summary="What a PiSSA, OLoRA, CorDA or LoRA-GA adapter adds to the published base: A less A0, its beginning.",
        source="PiSSA, arXiv 2404.02948, appendix C",
    ),
    Method(
        name="ties",
        revision=3,  # fitted exactly up to 1024 columns, beyond them until residuals are small
        arity=(1, MAX_INPUTS),
        parameters=(_DENSITY, *_CONSENSUS, _LAMBDA, _FITTED),
        commutative=True,
        written="ties(A, 0.5*B, density=0.5)",
        summary="Trim each true delta to its largest elements, elect signs, and merge what agrees.",
        source="TIES-Merging, arXiv 2306.01708, algorithm 1",
        presets=_PEFT,
    ),
    Method(
        name="dare_linear",
        revision=3,  # fitted exactly up to 1024 columns, beyond them until residuals are small
        arity=(1, MAX_INPUTS),
        parameters=(_DROP, _RESCALE, _LAMBDA, _SEED, _FITTED),
        commutative=True,
        written="dare_linear(A, B, drop=0.5, seed=7)",
        summary="Drop elements of each true delta at random, rescale the others, and add.",
        source="DARE, arXiv 2311.03099, equation 2",
        presets={"peft": {"rescale": "yes", "lambda": 1.0}},
    ),
    Method(
        name="dare_ties",
        revision=3,  # fitted exactly up to 1024 columns, beyond them until residuals are small
        arity=(1, MAX_INPUTS),
        parameters=(_DROP, _RESCALE, *_CONSENSUS, _LAMBDA, _SEED, _FITTED),
        commutative=True,
        written="dare_ties(A, B, drop=0.5, seed=7)",
        summary="Drop elements of each true delta at random, rescale the others, elect signs, and merge what agrees.",
        source="DARE, arXiv 2311.03099, with the election of arXiv 2306.01708",
        presets=_PEFT,
    ),
    Method(
        name="della",
        revision=3,  # ranks magnitudes that every device rounds alike; fitted until residuals are small
        arity=(1, MAX_INPUTS),
        parameters=(
            _DROP,
            _share("epsilon", 0.2, "how far chances differ between a row's smallest and largest element"),
            _RESCALE,
            *_CONSENSUS,
            _LAMBDA,
            _SEED,
            _FITTED,
        ),
        commutative=True,
        written="della(A, B, drop=0.5, epsilon=0.2, seed=7)",
        summary="As dare_ties, but the smaller an element is within its row, the likelier it is dropped.",
        source="DELLA-Merging, arXiv 2406.11617, section 3",
    ),
    Method(
        name="breadcrumbs",
        revision=3,  # fitted exactly up to 1024 columns, beyond them until residuals are small
        arity=(1, MAX_INPUTS),
        parameters=(
            _share("density", 0.9, "the share of a delta's elements that is kept"),
            _share("gamma", 0.01, "the share of the largest elements, which are dropped as outliers"),
            _LAMBDA,
            _FITTED,
        ),
        commutative=True,
        written="breadcrumbs(A, B, density=0.9, gamma=0.01)",
        summary="Drop each true delta's largest and smallest elements, and add.",
        source="Model Breadcrumbs, arXiv 2312.06795, section 3",
    ),
    Method(
        name="sce",
        revision=3,  # fitted exactly up to 1024 columns, beyond them until residuals are small
        arity=(2, MAX_INPUTS),
        parameters=(
            _share("density", 0.5, "the share of the elements that is kept, those that differ most between inputs"),
            _LAMBDA,
            _FITTED,
        ),
        commutative=True,
        written="sce(A, B, density=0.5)",
        summary="Select the elements that vary most, weigh inputs by energy there, erase minority signs, average.",
        source="FuseChat's SCE, arXiv 2408.07990, section 3.3",
    ),
    Method(
        name="magnitude",
        revision=3,  # fitted exactly up to 1024 columns, beyond them until residuals are small
        arity=(1, MAX_INPUTS),
        parameters=(_DENSITY, _LAMBDA, _FITTED),
        commutative=True,
        written="magnitude(A, B, density=0.5)",
        summary="Trim each true delta to its largest elements, and add.",
        source="the trimming of arXiv 2306.01708 alone; PEFT's magnitude_prune_svd",
        presets={"peft": {"lambda": 1.0}},
    ),
    Method(
        name="knots",
        revision=1,
        arity=(1, MAX_INPUTS),
        parameters=(_DENSITY, *_CONSENSUS, _LAMBDA),
        commutative=True,
        written="knots(A, B, density=0.5)",
        summary="TIES on the coordinates in one output basis that all inputs share; exact at the sum of the ranks.",
        source="KnOTS, arXiv 2410.19735, section 4",
    ),
    Method(
        name="core_space",
        revision=1,
        arity=(1, MAX_INPUTS),
        parameters=(
            choice("merge", "ties", ("sum",), "how the cores are merged"),
            _DENSITY,
            *_CONSENSUS,
            _LAMBDA,
        ),
        commutative=True,
        written="core_space(A, B, merge=ties, density=0.5)",
        summary="TIES or task arithmetic on cores of rank x rank, in bases that all inputs share.",
        source="Core Space, arXiv 2509.17786, section 3",
    ),
    Method(
        name="tsv",
        revision=1,
        arity=(1, MAX_INPUTS),
        parameters=(
            Parameter("keep", "int", 1, _LARGEST_RANK, None, "singular vectors kept of each input; all", optional=True),
            _LAMBDA,
        ),
        commutative=True,
        written="tsv(A, B, keep=8)",
        summary="Make the inputs' singular vectors orthogonal to each other, so that they interfere least, and add.",
        source="TSV-Merge, arXiv 2412.00081, section 4.2",
    ),
    Method(
        name="iso_c",
        revision=1,
        arity=(1, MAX_INPUTS),
        parameters=(_LAMBDA,),
        commutative=True,
        written="iso_c(A, B)",
        summary="The sum with all of its singular values replaced by their mean.",
        source="Iso-C, arXiv 2502.04959, equation 7",
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _TABLE})
"""Every method that the engine has, by name."""


def find_method(name: str, where: str) -> Method:
    """Look a method up. Raises InvalidRecipe that lists the known ones."""
    try:
        return METHODS[name]
    except KeyError:
        known = ", ".join(METHODS)
        raise InvalidRecipe(f"{where}.method", f"there is no method {name[:40]!r}; known are {known}") from None


def validate(name: str, params: Mapping[str, object], *, inputs: int, where: str = "root") -> dict[str, Value]:
    """Return a method's parameters with types checked and every default explicit.

    Raises InvalidRecipe; its `where` is `<where>.method`, `<where>.inputs` or `<where>.params.<name>`.
    """
    method = find_method(name, where)
    fewest, most = method.arity
    if not fewest <= inputs <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise InvalidRecipe(f"{where}.inputs", f"{name} takes {wanted} inputs, not {inputs}")
    given = _without_preset(method, params, where)
    for unknown in given.keys() - {parameter.name for parameter in method.parameters}:
        known = ", ".join(parameter.name for parameter in method.parameters)
        raise InvalidRecipe(f"{where}.params.{unknown}", f"{name} has no parameter {unknown!r}; it has {known}")
    _check_alternatives(method, given, where)
    read = {parameter.name: _value(parameter, given, where) for parameter in method.parameters}
    values = {key: value for key, value in read.items() if value is not None}
    weights = values.get("weights")
    if isinstance(weights, tuple) and len(weights) != inputs:
        raise InvalidRecipe(f"{where}.params.weights", f"{len(weights)} weights for {inputs} inputs")
    return values


def _without_preset(method: Method, params: Mapping[str, object], where: str) -> Mapping[str, object]:
    """The parameters with a preset's options in its place; what is given beside it counts more."""
    if "preset" not in params or not method.presets:
        return params
    preset = params["preset"]
    if not isinstance(preset, str) or preset not in method.presets:
        raise InvalidRecipe(f"{where}.params.preset", f"the presets of {method.name} are {', '.join(method.presets)}")
    return {**method.presets[preset], **{key: value for key, value in params.items() if key != "preset"}}


def _check_alternatives(method: Method, params: Mapping[str, object], where: str) -> None:
    if method.needed and not params.keys() & set(method.needed):
        raise InvalidRecipe(f"{where}.params", f"one of {', '.join(method.needed)} must be given")
    both = [key for key in method.exclusive if key in params]
    if len(both) > 1:
        raise InvalidRecipe(f"{where}.params.{both[1]}", f"{both[0]} and {both[1]} exclude each other")


def _value(parameter: Parameter, params: Mapping[str, object], where: str) -> Value | None:
    place = f"{where}.params.{parameter.name}"
    given = params.get(parameter.name, parameter.default)
    if given is None and parameter.optional:
        return None
    if given is None:
        raise InvalidRecipe(place, f"{parameter.name} is missing: {parameter.summary}")
    try:
        return parameter.read(given)
    except ValueError as error:
        raise InvalidRecipe(place, str(error)) from None
