"""Every real adapter against every real base: accepted, refused, or refused to be composed, by name."""

from tests.factories import EXAMPLES, minilm_folder, smollm2_file

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


def with_bases(adapters):
    adapters("base", "add", MINILM, str(minilm_folder()))
    adapters("base", "add", SMOLLM2, str(smollm2_file()))
    return adapters


def test_every_example_is_accepted_with_its_base_and_refused_with_the_other(adapters):
    with_bases(adapters)
    for folder in sorted(EXAMPLES.iterdir()):
        wrong = MINILM if "smollm2" in folder.name else SMOLLM2
        refusal = adapters("push", str(folder), f"real/{folder.name}", "--base", wrong, "--json", code=4).error
        assert refusal["error"] == "base_mismatch"
        assert refusal["detail"]["tensor"]
        pushed = adapters("push", str(folder), f"real/{folder.name}", "--json").json
        assert pushed["version"]["base"]["evidence"] == "structural"
    assert len(adapters("search", "--base", MINILM, "--target", "query", "--json").json["versions"]) == 6
    assert len(adapters("search", "--base", SMOLLM2, "--json").json["versions"]) == 1


def test_what_cannot_be_composed_is_refused_by_name(adapters):
    with_bases(adapters)
    for name in ("minilm-sentiment-r8", "minilm-debian-r4-dora-fp16", "minilm-wordnet-seqcls-r8", "smollm2-gloss-r8"):
        adapters("push", str(EXAMPLES / name), f"demo/{name}")
    plain = "demo/minilm-sentiment-r8"
    refused = {
        "demo/smollm2-gloss-r8": ("base_conflict", "MiniLM"),
        "demo/minilm-debian-r4-dora-fp16": ("unsupported_adapter", "dora"),
        "demo/minilm-wordnet-seqcls-r8": ("unsupported_adapter", "modules_to_save"),
    }
    for other, (error, named) in refused.items():
        refusal = adapters("blend", f"{plain} + {other}", "--into", "demo/x", "--json", code=4).error
        assert refusal["error"] == error
        assert named in refusal["message"] and other in refusal["message"]
    assert "demo/x" not in adapters("list").out
