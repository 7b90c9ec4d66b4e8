# One command each: make demo, make test, make check, make bench, make test-faults.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
DEMO_HOME := .demo

.PHONY: demo test test-failed check format bench test-faults clean

# The virtual environment with PyTorch: enough for the main job.
$(VENV)/.demo-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[torch]' scikit-learn
	touch $@

# All frameworks and tools that the tests and checks use.
$(VENV)/.dev-ready: $(VENV)/.demo-ready
	$(PIP) --editable '.[dev]'
	touch $@

# The main job on real data: stopped in time with a checkpoint, resumed to the end, listed.
demo: $(VENV)/.demo-ready
	BIN=$(BIN) DEMO_HOME=$(DEMO_HOME) sh examples/demo.sh

# Three at a time on two cores: a quarter of the time the tests wait for a process or a deadline.
test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not faults"

# What failed in the last run, alone on the machine: tells a broken test from a crowded moment.
test-failed: $(VENV)/.dev-ready
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --timeout 1800

# Long fault and soak suites; FAULTS=tests/faults for the checkpoint store's alone, whose quick ones `make test` runs as well.
FAULTS ?= tests
test-faults: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m faults --timeout 1800 $(FAULTS)
	$(if $(filter tests tests/faults,$(FAULTS)),$(BIN)/python -m pytest -n 2 --dist worksteal -m "not faults" --timeout 1800 tests/faults)

check: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing/api.py

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-ready
	$(PIP) gpustat submitit
	$(BIN)/python benchmarks/boundary.py
	$(BIN)/python benchmarks/deadline.py
	$(BIN)/python benchmarks/checkpoint.py
	$(BIN)/python benchmarks/governor.py

clean:
	rm -rf $(VENV) $(DEMO_HOME) .pytest_cache .mypy_cache .ruff_cache .hypothesis
