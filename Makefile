# Every target that needs the virtual environment runs `setup` first; setup is quick when nothing changed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The Python that makes the environment (3.11 or newer), and where the environment lies.
PYTHON ?=
VENV ?= .venv
# More words for the target's command: `make test ARGS='-k receipts'`, `make demo ARGS=--once`.
ARGS ?=
# How many processes run the tests: three for two cores, since some tests wait for a process or for time to pass.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n * 3 / 2 > 2 ? n * 3 / 2 : 2)))
export PYTHON VENV

.PHONY: help setup demo test check format bench mutants clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: ## Create .venv with the aitbc command and all that the other targets need
	@scripts/setup

demo: setup ## Start a coordinator and a miner here, run jobs, verify their receipts; Ctrl-C ends it
	@$(VENV)/bin/aitbc demo $(ARGS)

test: setup ## Run the tests, on SQLite and on PostgreSQL
	@env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: setup ## Lint, types, import order, and migrations against the models
	@scripts/check

format: setup ## Format the code and sort its imports
	@$(VENV)/bin/ruff check --fix-only --select I .
	@$(VENV)/bin/ruff format .

bench: setup ## Measure speed and memory; writes the table in benchmarks/README.md
	@$(VENV)/bin/python -m benchmarks.run $(ARGS)

mutants: setup ## Put small faults into the code, one at a time: do the tests notice? Takes hours
	@scripts/mutants $(ARGS)

clean: ## Remove the virtual environment and the caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis mutants build dist src/aitbc.egg-info tests/support/bitcoin_node/node_modules
