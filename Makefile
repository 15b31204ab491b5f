# make quickstart   from a fresh clone to a ranked leaderboard
# make test         linters, types, layers and all tests, as CI runs them
# make test-fast    the quick tests only, for daily work
# make docs         the site of the documentation, in build/site; a broken link fails
# make coverage     the lines that the quick tests leave out
# make gpu-check    on a machine with a GPU: all that only a GPU can show, in under ten minutes (docs/gpu.md)
# make soak         the long forms of simulations and of tests of crashes

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Real data that may not be redistributed; tests that need them are skipped, with the reason, where they are absent.
export RECBENCH_SHARED ?= $(wildcard $(abspath ../shared))
# Each worker of pytest has one core: threads of its own would only get in the way of the others'. Bytecode is kept, also
# where the environment forbids it: a thousand processes would compile the same files.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest
CORES := $(shell nproc 2>/dev/null || echo 2)

.PHONY: quickstart install dev test test-fast doctest test-shared coverage soak gpu-check docs lint clean

quickstart: install
	$(BIN)/recbench weights fetch st_lpips
	$(BIN)/recbench run suites/quickstart.yaml

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("recbench needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[docs,lint,test]'
	touch $@ $(VENV)/.installed

# Slow tests wait for clusters, browsers and time limits, so there are more workers than cores. All tests of a file are
# one worker's: what a module sets up, a cluster or a browser, is there once.
test: dev lint doctest
	$(PYTEST) -n $(shell expr 2 \* $(CORES)) --dist loadfile --no-loadscope-reorder --durations=10

test-fast: dev doctest
	$(PYTEST) -n $(CORES) -m 'not slow'

doctest: dev
	$(PYTEST) --quiet --doctest-modules recbench plugins --ignore-glob='*/tests/*'

# What needs RECBENCH_SHARED, alone: make test runs it too where that is set.
test-shared: dev
	RECBENCH_WEIGHTS="$(RECBENCH_SHARED)/data/weights" $(PYTEST) -n $(CORES) -m shared

coverage: dev
	$(PYTEST) -n $(CORES) -m 'not slow' --cov --cov-report=term:skip-covered

soak: dev
	RECBENCH_SOAK=1 $(PYTEST) -n $(CORES) -m soak

# No pins: a machine with a GPU may need the torch that fits its driver.
gpu-check: $(VENV)/bin/python
	$(BIN)/python -c 'import recbench, pytest' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e . pytest
	$(BIN)/python benchmarks/gpu_check.py $(GPU_CHECK)

docs: dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict -f docs/site/mkdocs.yml

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache
