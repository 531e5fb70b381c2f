PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# One thread a test process: pytest runs one on every core, and torch would start as many threads in each.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.PHONY: demo test test-all bench lint clean

# The stamp is rebuilt when pyproject.toml changes, so that a pulled checkout gets its new dependencies.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/interpret demo --output demo-output

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

bench: $(VENV)/.installed
	$(BIN)/python -m tools.bench

clean:
	rm -rf $(VENV) demo-output .pytest_cache .mypy_cache .ruff_cache
