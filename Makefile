# Everything runs in .venv, which is made when it is missing and renewed when pyproject.toml changes.

PYTHON ?= python3.11
BIN := .venv/bin
PACKAGES := $(patsubst %/py.typed,%,$(wildcard */py.typed))
PROVED := protocol/*,privacy/*,strategies/*
WORKERS ?= 2
# Bytecode is made of what is imported, and of that alone: a minute less.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile

# Two processes with a thread pool each are slower on two cores than two without.
export OMP_NUM_THREADS := 1
# Flower and Ray call home unless they are told not to.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
# Ray warns when it hides accelerators from a worker that asked for none; this is its new default.
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check unit e2e crash slow bench clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.simulation ## Train one model in a consortium of virtual hospitals on this machine
	$(BIN)/fedward simulate configs/simulations/demo.yaml

test: .venv/.dev ## Check and test everything but what takes minutes
	$(MAKE) --jobs=2 check unit

check: .venv/.dev ## Style, types, directions of imports, examples in docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q --doctest-modules fedward.py $(PACKAGES)

unit: .venv/.dev ## Tests, and how much of the code they run
	rm -f .coverage .coverage.*
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal --cov --cov-report=
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --fail-under=100 --include='$(PROVED)'

e2e: .venv/.dev ## Whole consortia: real nodes and coordinator, each killed once; Flower's own engine
	$(BIN)/pytest -m 'slow or not slow' tests/end_to_end

crash: .venv/.dev ## Kill every process of a federation at random moments, and print what came of it
	$(BIN)/python -m tests.end_to_end.crash

slow: .venv/.dev ## Tests that take minutes: killed processes, repeated audits, the wheel elsewhere
	$(BIN)/pytest -m slow

bench: .venv/.dev ## Measure; every script prints a table
	set -e; for script in benchmarks/*.py; do $(BIN)/python "$$script"; done

clean: ## Remove what was built, cached or measured, but not .venv
	rm -rf build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache *.egg-info
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.simulation: pyproject.toml | .venv/bin/python
	$(INSTALL) --editable '.[simulation]'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(INSTALL) --editable '.[dev]'
	touch .venv/.simulation $@
