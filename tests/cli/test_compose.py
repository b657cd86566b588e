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


@pytest.mark.embedded
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


@pytest.mark.embedded
def test_a_message_may_begin_with_a_minus_too(stocked):
    stocked("blend", SUM, "--into", "demo/new", "--message", "-1.0*demo/x is not an input")
    assert stocked("show", "demo/new", "--json").json["message"] == "-1.0*demo/x is not an input"


def test_a_dry_run_reports_and_keeps_nothing(stocked):
    done = stocked("blend", f"truncate({SUM}, rank=4)", "--into", "demo/new", "--dry-run")
    assert "4 of 16, in 12 modules" in done.out and "kept" in done.out
    assert "a dry run: nothing was kept" in done.out
    stocked("show", "demo/new", code=3)


def report_table(out):
    """The lines of the report's table, from its head on."""
    lines = out.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("module ")) :][:4]


def test_a_dry_run_prints_the_table_that_the_blend_prints(stocked):
    text = f"truncate({SUM}, rank=4)"
    dry, real = (stocked("blend", text, "--into", "demo/new", *flags).out for flags in (["--dry-run"], []))
    head, query, value, both = report_table(dry)
    assert report_table(real) == [head, query, value, both]
    assert head.split() == ["module", "n", "rank", "kept", "90%", "99%", "signs", "cosine"]
    assert query.split()[0] == "encoder.layer.*.attention.self.query" and both.split()[:2] == ["all", "12"]


@pytest.mark.embedded
def test_one_parent_needs_no_columns_of_agreement(stocked):
    head, *_ = report_table(stocked("blend", "2*demo/wordnet", "--into", "demo/new", "--dry-run").out)
    assert head.split() == ["module", "n", "rank", "kept", "90%", "99%"]


def test_a_full_report_counts_every_entry(stocked):
    for options, every in (([], False), (["--report", "full"], True)):
        report = stocked("blend", SUM, "--into", "demo/new", "--dry-run", "--json", *options).json["report"]
        conflicts = report["total"]["conflicts"]
        assert conflicts["entries"] == 12 * 384 * 384
        assert (conflicts["counted"] == conflicts["entries"]) == every
        assert conflicts["share"] == pytest.approx(0.495, abs=0.01)


def test_show_tells_what_a_blend_was_published_with(stocked):
    made = stocked("blend", SUM, "--into", "demo/new", "--rank", "6", "--json").json
    shown = stocked("show", "demo/new", "--json").json
    assert shown["report"] == made["report"]["total"]
    text = " ".join(stocked("show", "demo/new").out.split())
    assert "of the energy kept, 90% within rank" in text and "signs differ in" in text
    assert stocked("show", "demo/wordnet", "--json").json["report"] is None


STRANGE = ["{", "[]", '{"recipe_digest": null}', '{"recipe_digest": ["a"]}', '{"report": {"total": {"rank_90": 1}}}']


@pytest.mark.embedded
@pytest.mark.parametrize("content", [*STRANGE, '{"recipe_digest": "DIGEST", "report": "x"}'])
def test_a_report_that_somebody_pushed_is_nobodys(content, stocked, desk):
    digest = stocked("blend", SUM, "--into", "demo/new", "--json").json["recipe_digest"]
    stocked("pull", "demo/new", "--to", "copy")
    (desk / "copy" / "composition.json").write_text(content.replace("DIGEST", digest))
    stocked("push", "./copy", "demo/new", "--message", "by hand")
    assert stocked("show", "demo/new", "--json").json["report"] is None


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


@pytest.mark.embedded
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


@pytest.mark.embedded
def test_a_recipe_may_be_yaml(stocked, desk):
    made = stocked("blend", SUM, "--into", "demo/new", "--json").json
    (desk / "recipe.yaml").write_text(YAML)
    again = stocked("blend", "--recipe", "recipe.yaml", "--into", "demo/new", "--json").json
    assert again["recipe_digest"] == made["recipe_digest"]


@pytest.mark.embedded
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


@pytest.mark.embedded
def test_composing_on_the_cpu_takes_one_thread(stocked):
    torch.set_num_threads(2)
    stocked("blend", SUM, "--into", "demo/new", "--device", "cpu")
    assert torch.get_num_threads() == 1


def test_adapters_of_different_bases_are_refused_by_name(stocked):
    stocked("push", "./gloss", "demo/gloss")
    failed = stocked("blend", "demo/gloss + demo/wordnet", "--into", "demo/new", "--json", code=4).error
    assert failed["error"] == "base_conflict"
    assert {failed["detail"]["left"], failed["detail"]["right"]} == {"demo/gloss@v1", "demo/wordnet@v1"}


def test_figures_that_are_none_are_not_printed(stocked, desk):
    digest = stocked("blend", SUM, "--into", "demo/new", "--json").json["recipe_digest"]
    stocked("pull", "demo/new", "--to", "copy")
    total = {"rank_90": "\x1b[2J", "rank_99": 7, "cosines": {"a": 1}, "conflicts": [1], "energy_kept": True}
    document = {"recipe_digest": digest, "report": {"total": total}}
    (desk / "copy" / "composition.json").write_text(json.dumps(document))
    stocked("push", "./copy", "demo/new", "--message", "by hand")
    assert "report  99% within rank 7\n" in stocked("show", "demo/new").out
