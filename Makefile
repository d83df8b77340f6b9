# Two commands do everything on a fresh machine: `make benchmark` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPARES := $(VENV)/.compares

.PHONY: help benchmark test test-long conformance lint format wheel-check release-check clean

BACKENDS := keras-tensorflow keras-jax keras-torch pytorch jax onnxruntime reference

help:
	@echo "make benchmark   compare the frameworks and write comparison/report.md (options: ARGS='...')"
	@echo "make test        run the project's tests but for the longest, which are make test-long"
	@echo "make conformance hold every backend against the contract"
	@echo "make lint        ruff, mypy and import-linter"
	@echo "make format      format the code"
	@echo "make release-check  build the wheel and run it in fresh environments (PYTHONS='python3.11 ...')"

# The environment is made when it is missing and brought up to date when pyproject.toml has changed: for a comparison
# with what it compares, for tests with everything.
INSTALL = test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e
$(COMPARES): pyproject.toml
	$(INSTALL) '.[keras,pytorch]'
	@touch $@

$(READY): pyproject.toml
	$(INSTALL) '.[dev]'
	@touch $@ $(COMPARES)

benchmark: $(COMPARES)
	$(BIN)/python -m pytest --benchmark $(ARGS)

# A file stays on one process, since its tests share what a fixture has trained.
PYTEST := $(BIN)/python -m pytest --timeout 600 -n 2 --dist loadfile --no-loadscope-reorder
test: $(READY)
	$(PYTEST) -m 'not long' $(ARGS)

test-long: $(READY)
	$(PYTEST) -m long $(ARGS)

# Minutes for what compiles every step of every model; two at a time, each shown when it has ended.
conformance: $(READY)
	printf '%s\n' $(BACKENDS) | xargs -P 2 -I NAME sh -c '\
		said=$$($(BIN)/python -m pytest --benchmark --crosscheck-conformance NAME -q 2>&1); ended=$$?; \
		echo "$$said"; exit $$ended'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases benchmarks/*.py
	$(BIN)/lint-imports

# A small comparison from the wheel, without the repository.
wheel-check: $(READY)
	$(BIN)/python -m tests.installed

# All that a release has to pass: each Python, and the oldest versions that are allowed. Gigabytes of downloads.
PYTHONS ?= python3.11 python3.12 python3.13
release-check: $(READY)
	$(BIN)/python -m tests.release $(PYTHONS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
