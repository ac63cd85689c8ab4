# The two commands of the README: `make study` and `make test`. Each makes the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: study test fast lint bench clean

# The main job: a size-threshold study on real digits, through Ray, with its report.
study: $(VENV)/installed
	$(BIN)/raysl run studies/digits_threshold.py

# The whole test suite, after format, lint and types.
test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest

fast: $(VENV)/installed-test
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-test
	$(PIP) -e ".[test,bench]"
	$(BIN)/python benchmarks/views.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/trial_overhead.py
	$(BIN)/python benchmarks/threshold_design.py --num 100

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'raysl needs Python 3.11 or newer: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[test]"
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
