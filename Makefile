# One command each: make demo, make test-quick, make test, make check, make bench, make test-faults.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
DEMO_HOME := .demo

.PHONY: demo test prove-examples test-versions test-quick test-long test-failed test-first-hour test-gpu check coverage messages docs dist release format bench test-faults clean

# The virtual environment with PyTorch: enough for the main job.
$(VENV)/.demo-ready: pyproject.toml constraints.txt
	@echo "Installing PyTorch and what the demo needs into $(VENV): about 1.1 GB on disk (PyTorch's CPU build is 0.75 of it)."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "  1 of 2: torch" && $(PIP) torch==2.13.0
	@echo "  2 of 2: backprop, scikit-learn" && $(PIP) --editable '.[torch]' scikit-learn
	@touch $@

# What the tests that tell most need beside it.
$(VENV)/.quick-ready: $(VENV)/.demo-ready
	@echo "Installing pytest and what the quick tests need: about 50 MB more."
	@$(PIP) --editable '.[torch,remote,test]'
	@touch $@

# All frameworks and tools that the tests and checks use.
$(VENV)/.dev-ready: $(VENV)/.quick-ready
	@echo "Installing all frameworks that the tests train with: about 2.2 GB more on disk (TensorFlow 1.3, JAX 0.4); some minutes."
	@$(PIP) --editable '.[dev]'
	@touch $@

# The main job on real data: a plain script stopped in time, resumed to the end, compared, proven, and its report. A minute.
demo: $(VENV)/.demo-ready
	BIN=$(BIN) DEMO_HOME=$(DEMO_HOME) sh examples/demo.sh

# What a change breaks first, in about three minutes: the core, the command and the loops of PyTorch, without other frameworks.
QUICK := tests/test_import_rules.py tests/backprop_core tests/backprop_cli/test_run.py tests/backprop_cli/test_resume.py \
	tests/backprop_torch/test_cut_trainings.py tests/backprop_torch/test_signals.py tests/deadline
test-quick: $(VENV)/.quick-ready
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not faults and not long" $(QUICK) || $(WHAT_NEXT)

# Three at a time on two cores: a quarter of the time the tests wait for a process or a deadline.
test: $(VENV)/.dev-ready
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not faults and not long" || $(WHAT_NEXT)

# What takes half a minute of processor time or more each: CI runs it behind `make test`.
test-long: $(VENV)/.dev-ready
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "long and not faults" --timeout 1800 || $(WHAT_NEXT)

# The line to type where something failed; the status stays that of the tests.
WHAT_NEXT = { status=$$?; echo; echo "To run what failed once more, alone on the machine, type:  make test-failed"; exit $$status; }

# What failed in the last run, alone on the machine: tells a broken test from a crowded moment.
test-failed: $(VENV)/.quick-ready
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --timeout 1800

# Long fault and soak suites; FAULTS=tests/faults for the checkpoint store's alone, without the quick ones that `make test` runs.
FAULTS ?= tests
test-faults: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m faults --timeout 1800 $(FAULTS)
	$(if $(filter tests,$(FAULTS)),$(BIN)/python -m pytest -n 2 --dist worksteal -m "not faults" --timeout 1800 tests/faults)

# The first hour of five people, each from a fresh clone: a student, Kaggle, a lab, a cluster, an agent. What is committed is tried.
# PEOPLE="student lab" tries some of them.
test-first-hour: $(VENV)/.demo-ready
	@PYTHON=$(BIN)/python bash tests/first_hour/run.sh

# On a machine with CUDA, never in CI: a table in less than eight minutes, then tests/gpu. GPU_PYTHON is an interpreter whose torch
# finds the GPU, with `pip install --editable '.[torch,test]'`; without it .venv's. Without a GPU it says so and stops.
GPU_PYTHON ?= $(BIN)/python
test-gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(VENV)/.quick-ready)
	@$(GPU_PYTHON) benchmarks/gpu.py; table=$$?; test $$table -le 1 || exit $$table; \
	  $(GPU_PYTHON) -m pytest tests/gpu && exit $$table

# The oldest and the newest Lightning, Keras, transformers and accelerate that pyproject.toml allows; VERSIONS=--all also runs their
# adapters' behaviour, VERSIONS=--quick the oldest alone. Some 100 MB in .versions/; a minute or two.
test-versions: $(VENV)/.dev-ready
	$(BIN)/python -m tests.versions $(VERSIONS)

# That cutting them changes no bit, of every example that trains: some minutes each.
EXAMPLES = *.py unmodified/*.py
PROVE = $(abspath $(BIN))/backprop prove -m 30 --min-free-ram 0
prove-examples: $(VENV)/.dev-ready
	@cd examples && failed=; for script in $(EXAMPLES); do \
	  echo "== $$script"; case $$script in \
	    *_ddp.py) $(PROVE) --exec $(abspath $(BIN))/torchrun -- --nproc-per-node 2 $$script;; \
	    *) $(PROVE) $$script;; \
	  esac || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "not proven:$$failed"; exit 1; }

check: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing
	$(BIN)/vulture
	$(BIN)/python -m pytest tests/test_import_rules.py
	$(DOCS) --quiet

# Every branch of the files that decide, judge a machine and move a run's status is taken by their own tests.
DECIDING := backprop_core/deadline/decision.py,backprop_core/runs/status.py,backprop_core/resources/policy.py
coverage: $(VENV)/.dev-ready
	$(BIN)/coverage run --include=$(DECIDING) -m pytest tests/backprop_core/deadline/test_decision.py \
	  tests/backprop_core/runs/test_status.py tests/backprop_core/resources/test_policy.py
	$(BIN)/coverage report --show-missing --fail-under=100

# What is made from the words in the code: tests/messages.txt, where a review sees each change of a word, and the man page.
messages: $(VENV)/.demo-ready
	@$(BIN)/python -m tests.messages
	@$(BIN)/python docs/reference/generated.py

# All pages as a site, in build/site/; a dead link or a page that the navigation lacks fails it.
DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
docs: $(VENV)/.dev-ready
	$(DOCS)
	@echo "Open build/site/index.html."

# The wheel and the source distribution, in dist/: the same commit gives the same bytes. Nothing is uploaded.
dist: $(VENV)/.dev-ready
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation --outdir dist .

# All of a release but the upload: it checks versions and changelog, builds twice, tries the wheel in an empty environment, and writes
# notes and digests into dist/.
release: $(VENV)/.dev-ready
	@$(PIP) twine
	@$(BIN)/python packaging/release.py

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-ready
	$(PIP) gpustat submitit
	$(BIN)/python benchmarks/boundary.py
	$(BIN)/python benchmarks/deadline.py
	$(BIN)/python benchmarks/checkpoint.py
	$(BIN)/python benchmarks/governor.py
	$(BIN)/python benchmarks/unchanged.py
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/events.py
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python -m benchmarks.script_state

clean:
	rm -rf $(VENV) $(DEMO_HOME) .pytest_cache .mypy_cache .ruff_cache .hypothesis
