# Everything a person or CI does with this repository. Only CPython 3.11–3.13, git and make are
# needed beforehand; each target installs first what it needs into .venv.
#
#   make run                        set up and serve on 127.0.0.1:4000
#   make run ARGS="--port 4001"     … with flags of `embedpool serve`
#   make test ARGS="-k lane"        … with flags of pytest
#   make test JOBS=1                … one after the other
#   make PYTHON=/path/to/python …   … with an interpreter of your own

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests mostly wait for processes, so there may be more of them at once than there are cores.
JOBS ?= 2
export VENV PYTHON

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test test-long ci lint fmt types imports deploy bench dashboards lock clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 — \2/p' Makefile

install: ## Install embedpool with all it needs to serve into .venv
	@scripts/install run

install-dev: ## The same, with the tools to develop it
	@scripts/install dev

run: install ## Serve: api, worker and an embedded Valkey in one
	@exec $(BIN)/embedpool serve $(ARGS)

test: install-dev ## Run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not long" $(ARGS)

test-long: install-dev ## Run the tests that take minutes or the whole machine
	$(BIN)/python -m pytest -m long $(ARGS)

ci: lint types imports deploy test ## Everything CI checks

lint: install-dev ## Style and likely bugs
	$(BIN)/ruff check
	$(BIN)/ruff format --check

fmt: install-dev ## Repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: install-dev ## Types, strictly
	$(BIN)/mypy

imports: install-dev ## Who may import whom
	$(BIN)/lint-imports

deploy: install-dev ## Dockerfile and compose file, without an engine
	$(BIN)/hadolint Dockerfile
	EMBEDPOOL_MASTER_KEY=checked EMBEDPOOL_SECRET=checked $(BIN)/docker-compose --profile monitoring config --quiet

bench: install-dev ## One minute: embedpool beside the fake provider alone
	$(BIN)/python -m bench $(ARGS)

dashboards: install-dev ## Write the dashboards and docs/metrics.md
	$(BIN)/python -m embedpool_grafana

lock: install-dev ## Resolve pyproject.toml into requirements/*.lock (ARGS=--upgrade moves the pins)
	@scripts/lock $(ARGS)

clean: ## Remove .venv and what tools left behind
	rm -rf $(VENV) dist build .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache
