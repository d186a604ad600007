# Everything from a bare Python: `make demo` trains the quickstart grid, `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin
export MPLBACKEND := Agg

.PHONY: demo test lint lock clean

demo: .venv/ready
	$(BIN)/python -m experiments.quickstart

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Versions that were tried together, with their hashes. `make lock` renews them.
.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

lock:
	$(PYTHON) -m uv pip compile pyproject.toml --extra dev --extra prep --extra tfds --extra umap --universal --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --upgrade -o requirements.lock

clean:
	rm -rf .venv runs
