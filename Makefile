# Each target sets up what it needs by itself. Versions are pinned in constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help environment demo serve test test-ceph test-llamacpp test-peers check check-docker bench bench-compose bench-http \
	bench-hub bench-quality soak clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch is resolved, since what it needs differs by platform; the rest is one frozen list, which uv installs with a tenth
# of pip's work. Where uv can't reach the packages (only pip is told of a private index), pip installs them. Bytecode is
# written when a module is first imported: compiling all of torch and transformers ahead would take longer. What the demo
# imports is imported once here, so that it needn't wait for that.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile
UV  := $(BIN)/uv pip install --quiet --native-tls --link-mode copy --python $(BIN)/python
FROZEN = $(UV) --no-deps --requirement $(1) || $(PIP) --no-deps --requirement $(1)
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch uv
	$(call FROZEN,constraints.txt)
	$(PIP) --no-deps --no-build-isolation --editable .
	$(BIN)/python -W ignore -c "import composition.jobs, peft, transformers.models.bert.modeling_bert"
	@touch $@

environment: $(READY)  ## the virtual environment, which every other target makes by itself

demo: $(READY)  ## the main job on real adapters, with SQLite and a folder
	@$(BIN)/python examples/demo.py

serve: $(READY)  ## the registry in ADAPTERS_HOME over HTTP, for this machine
	@$(BIN)/adapters serve $(ARGS)

WORKERS := $(shell expr `getconf _NPROCESSORS_ONLN` + 1)  # one more than cores: some tests wait for disks and servers
test: $(READY)  ## every test but those that need Ceph
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not ceph' $(ARGS)

test-ceph: $(READY)  ## install and start a Ceph RGW, run the S3 contract suite and the end-to-end tests on it
	PYTHON=$(BIN)/python tests/ceph/run $(ARGS)

test-llamacpp: $(READY)  ## build llama-cpp-python in an environment of its own, compare a GGUF adapter's perplexity with PEFT's
	PYTHON=$(BIN)/python tests/llamacpp/run

test-peers: $(READY)  ## diffusers and LyCORIS, in an environment of their own, read what we write and write what we read
	PYTHON=$(BIN)/python tests/peers/run $(ARGS)

soak: $(READY)  ## a collector that never rests beside pushes, pulls and deletions, on SQLite; ARGS=DATABASE_URL for another
	$(BIN)/python -m tests.soak.collection --seconds 600 $(ARGS)

check: $(READY)  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-docker: $(READY)  ## lint the images' files, install what the server image installs and serve from it
	PYTHON=$(BIN)/python docker/check

bench: $(READY)  ## benchmarks: ratios against a peer or a physical limit
	$(BIN)/python -m benchmarks $(ARGS)

bench-http: $(READY)  ## look-ups over HTTP against an empty answer and MLflow; keeps the table in benchmarks/results/
	$(BIN)/python -m benchmarks.http --keep $(ARGS)

bench-hub: $(READY)  ## a Hugging Face client's pulls and pushes, against a bare static server and LFS; keeps the table
	$(BIN)/python -m benchmarks.hub --keep $(ARGS)

bench-compose: $(READY)  ## composing against PEFT, formulas and cp; keeps the table in benchmarks/results/
	$(BIN)/python -m benchmarks.compose $(ARGS)

bench-quality: $(VENV)/.bench  ## accuracy of every method and of PEFT's on real adapters; writes the docs' tables and plots
	$(BIN)/python -m benchmarks.quality $(ARGS)

$(VENV)/.bench: $(READY) benchmarks/constraints.txt
	$(call FROZEN,benchmarks/constraints.txt)
	@touch $@

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
