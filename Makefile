# Everything from a bare Python: `make demo` trains the quickstart grid, `make test` runs the tests, `make docs` builds the site.
PYTHON ?= python3
BIN := .venv/bin
# --no-deps: the lock holds everything. Without it pip asks the index again for a locked package whose extra is required
# (dandischema requires pydantic[email]) and takes a version that is newer than the hash allows.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
export MPLBACKEND := Agg

.PHONY: demo test lint docs lock clean

demo: .venv/ready
	$(BIN)/python -m experiments.quickstart

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/ready
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

# Versions that were tried together, with their hashes. `make lock UPGRADE=--upgrade` renews them.
.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --editable .
	$(BIN)/python -m pip check
	touch $@

# Renew the lock (needs uv), then record what the locked distributions require under each supported Python, for tests/test_lock.py.
PYTHONS ?= python3.11 python3.12 python3.13
lock:
	$(PYTHON) -m uv pip compile pyproject.toml --extra dev --extra prep --extra tfds --extra umap --extra hub --extra docs --universal --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links $(UPGRADE) -o requirements.lock
	for python in $(PYTHONS); do \
	  rm -rf .venv-lock && $$python -m venv .venv-lock && \
	  .venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
	  .venv-lock/bin/python -m tests.lock_metadata || exit 1; done
	rm -rf .venv-lock

clean:
	rm -rf .venv runs docs/_build docs/api docs/examples
