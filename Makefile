# make quickstart   from a fresh clone to a ranked leaderboard
# make test         linters, types, layers and all tests, as CI runs them

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests that compare with reference data look for it here and are skipped, with the reason, where it is absent.
export RECBENCH_SHARED ?= $(abspath ../shared)

.PHONY: quickstart install dev test lint clean

quickstart: install
	$(BIN)/recbench run suites/quickstart.yaml

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("recbench needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@ $(VENV)/.installed

test: dev lint
	$(BIN)/python -m pytest -n 2 -m 'not slow' --cov --cov-report=
	$(BIN)/python -m pytest -n 2 -m slow --cov --cov-append --cov-report=term:skip-covered

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache
