"""blend."""

import json

import pytest
import torch

SUM = "1.0*demo/sentiment@v1 + 1.0*demo/wordnet"


def test_a_blend_is_published_with_its_recipe_and_found_again(stocked):
    made = stocked("blend", "0.7*demo/sentiment@v1 + 0.3*demo/wordnet", "--into", "demo/new", "--json").json
    assert made["created"] and made["version"]["rank"] == 16
    assert made["report"]["total"]["rank"] == 16
    assert made["version"]["base"]["evidence"] == "structural"
    again = stocked("blend", "0.3*demo/wordnet@v1 + 0.7*demo/sentiment@v1", "--into", "demo/new")
    assert "demo/new@v1 (this recipe gave it before; --force computes it again)" in again.out
    forced = stocked(
        "blend", "0.3*demo/wordnet + 0.7*demo/sentiment@v1", "--into", "demo/new", "--force", "--json"
    ).json
    assert forced["report"] is not None and forced["recipe_digest"] == made["recipe_digest"]


@pytest.mark.parametrize(
    "expression", ["-1.0*demo/wordnet + demo/sentiment@v1", "-demo/wordnet + demo/sentiment@v1", "-(demo/wordnet)"]
)
def test_an_expression_may_begin_with_a_minus_anywhere_on_the_line(expression, stocked):
    flags = ["--dry-run", "--json"]
    orders = [
        [expression, "--into", "demo/new", *flags],
        [*flags, "--into", "demo/new", expression],
        [*flags, "--into=demo/new", "--", expression],
    ]
    results = [stocked("blend", *order).json for order in orders]
    assert len({result["recipe_digest"] for result in results}) == 1
    assert "-demo/wordnet@v1" in results[0]["expression"].replace("- ", "-")


def test_a_message_may_begin_with_a_minus_too(stocked):
    stocked("blend", SUM, "--into", "demo/new", "--message", "-1.0*demo/x is not an input")
    assert stocked("show", "demo/new", "--json").json["message"] == "-1.0*demo/x is not an input"


def test_a_dry_run_reports_and_keeps_nothing(stocked):
    done = stocked("blend", f"truncate({SUM}, rank=4)", "--into", "demo/new", "--dry-run")
    assert "4 of 16, in 12 modules" in done.out and "kept" in done.out
    assert "a dry run: nothing was kept" in done.out
    stocked("show", "demo/new", code=3)


def test_rank_truncates_and_contradictions_are_refused(stocked):
    made = stocked("blend", SUM, "--into", "demo/new", "--rank", "6", "--json").json
    assert made["version"]["rank"] == 6
    same = stocked("blend", f"truncate({SUM}, rank=6)", "--into", "demo/new", "--json").json
    assert same["recipe_digest"] == made["recipe_digest"]
    refused = stocked("blend", f"truncate({SUM}, rank=6)", "--into", "demo/new", "--rank", "5", code=2)
    assert "contradicts" in refused.err


def test_the_dtype_is_that_of_the_stored_tensors(stocked):
    made = stocked("blend", SUM, "--into", "demo/new", "--dtype", "bfloat16", "--alias", "small", "--json").json
    assert made["version"]["dtype"] == "BF16"
    assert stocked("resolve", "demo/new@small", "--json").json["dtype"] == "BF16"


def test_a_recipe_file_gives_what_the_expression_gives(stocked, desk):
    made = stocked("blend", SUM, "--into", "demo/new", "--json").json
    (desk / "recipe.json").write_text(json.dumps(made["recipe"]))
    for arguments, stdin in ((["--recipe", "recipe.json"], None), (["--recipe", "-"], json.dumps(made["recipe"]))):
        again = stocked("blend", *arguments, "--into", "demo/new", "--json", stdin=stdin).json
        assert again["recipe_digest"] == made["recipe_digest"]
        assert not again["created"]


@pytest.mark.parametrize(
    ("content", "code"),
    [("[1]", 4), ("{", 4), ("{}", 2), ('{"root": {"adapter": "demo/x"}, "rank": 4}', 2), ("[" * 100_000, 4)],
)
def test_a_recipe_file_that_is_none_is_refused(content, code, stocked, desk):
    (desk / "recipe.json").write_text(content)
    stocked("blend", "--recipe", "recipe.json", "--into", "demo/new", code=code)


YAML = """
dtype: float32
root:
  method: linear
  params: {weights: [1.0, 1.0]}
  inputs: [{adapter: demo/sentiment@v1}, {adapter: demo/wordnet}]
"""


def test_a_recipe_may_be_yaml(stocked, desk):
    made = stocked("blend", SUM, "--into", "demo/new", "--json").json
    (desk / "recipe.yaml").write_text(YAML)
    again = stocked("blend", "--recipe", "recipe.yaml", "--into", "demo/new", "--json").json
    assert again["recipe_digest"] == made["recipe_digest"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("root: &a {adapter: demo/sentiment}\nother: *a", "line 2, column 10: has an alias"),
        ("root: {adapter: demo/x}\nroot: {adapter: demo/y}", "has 'root' twice"),
        ("root: !!python/object/apply:os.getcwd []", "python/object"),
        ("root: {adapter: [", "line 1"),
        ("[" * 5000, "recipe.yaml"),
    ],
)
def test_yaml_that_is_more_than_values_is_refused(text, why, stocked, desk):
    (desk / "recipe.yaml").write_text(text)
    assert why in stocked("blend", "--recipe", "recipe.yaml", "--into", "demo/new", code=4).err


def test_a_dtype_that_contradicts_the_recipe_is_refused(stocked, desk):
    (desk / "recipe.yaml").write_text(YAML)
    error = stocked("blend", "--recipe", "recipe.yaml", "--into", "demo/new", "--dtype", "float16", code=2).err
    assert "contradicts" in error


def test_an_expression_and_a_recipe_are_one_too_many(stocked, desk):
    (desk / "recipe.json").write_text("{}")
    assert "either" in stocked("blend", SUM, "--recipe", "recipe.json", "--into", "demo/new", code=2).err
    assert "either" in stocked("blend", "--into", "demo/new", code=2).err


def test_methods_are_listed_without_an_expression(adapters):
    out = adapters("blend", "--methods").out
    assert "lerp(A, B, t=0.5)" in out and "truncate(A, rank=16)" in out
    methods = adapters("blend", "--methods", "--json").json["methods"]
    assert {"linear", "lerp", "truncate"} <= {method["name"] for method in methods}


def test_composing_on_the_cpu_takes_one_thread(stocked):
    torch.set_num_threads(2)
    stocked("blend", SUM, "--into", "demo/new", "--device", "cpu")
    assert torch.get_num_threads() == 1


def test_adapters_of_different_bases_are_refused_by_name(stocked):
    stocked("push", "./gloss", "demo/gloss")
    failed = stocked("blend", "demo/gloss + demo/wordnet", "--into", "demo/new", "--json", code=4).error
    assert failed["error"] == "base_conflict"
    assert {failed["detail"]["left"], failed["detail"]["right"]} == {"demo/gloss@v1", "demo/wordnet@v1"}
