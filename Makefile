# The two commands of the README: `make study` and `make test`. Each makes the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# pip would do this on one core. What it cannot compile is written for newer Pythons.
COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true

.PHONY: study test fast lint bench bench-gpu bench-quality clean

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

# Speed and memory beside what one would pick instead, on a quiet machine, in under 15 minutes. Each
# benchmark prints its change since the last line of benchmarks/results/speed.jsonl from the same
# processor. DATA: a folder with fashion-mnist (IDX files) in it; without it pretraining.py and
# data_wait.py get random textures, probe.py gets scikit-learn's digits.
DATA ?=
ON_DATA := $(if $(DATA),--data $(DATA))

bench: $(VENV)/installed-test
	$(PIP) -e ".[test,bench]"
	$(COMPILE)
	$(BIN)/python benchmarks/pretraining.py $(ON_DATA)
	$(BIN)/python benchmarks/views.py
	$(BIN)/python benchmarks/data_wait.py $(ON_DATA)
	$(BIN)/python benchmarks/jpeg_reading.py
	$(BIN)/python benchmarks/probe.py $(ON_DATA)
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/ddp.py
	$(BIN)/python benchmarks/trial_overhead.py

# The same on one GPU, with whatever Python has PyTorch there: neither Ray nor MLflow is needed, and
# rows against lightly or kornia are left out where it has not got them.
bench-gpu:
	PYTHONPATH=. $(PYTHON) benchmarks/pretraining.py $(ON_DATA)
	PYTHONPATH=. $(PYTHON) benchmarks/graph.py
	PYTHONPATH=. $(PYTHON) benchmarks/utilisation.py
	PYTHONPATH=. $(PYTHON) benchmarks/packing.py
	PYTHONPATH=. $(PYTHON) benchmarks/views.py
	PYTHONPATH=. $(PYTHON) benchmarks/probe.py $(ON_DATA)

# How good the threshold is in simulated worlds, and whether fast training costs accuracy, which
# needs DATA.
bench-quality: $(VENV)/installed-test
	$(BIN)/python benchmarks/threshold_design.py --num 100
	$(if $(DATA),$(BIN)/python benchmarks/fast_path.py $(ON_DATA),@echo "fast_path.py is left out: it needs DATA=FOLDER")

# With the pip that comes with Python the installation takes twice as long.
$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'raysl needs Python 3.11 or newer: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	$(COMPILE)
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[test]"
	$(COMPILE)
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
