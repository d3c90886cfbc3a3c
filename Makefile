# What people and CI run. `make check` is the same everywhere.
#
# Everything is installed into .venv, made on first use with PYTHON (3.11 or later).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv compat-clients demo style types tests check bench bench-instructions bench-live live clean

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

venv: $(INSTALLED) ## make .venv with fsctl and what its tests need

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "fsctl needs Python 3.11 or later; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

compat-clients: $(INSTALLED) ## install the published clients of the compatibility API, which tests then drive
	$(PYTHON) -m venv $(VENV)/compat-clients/python
	$(VENV)/compat-clients/python/bin/pip install --quiet --disable-pip-version-check 'signalwire-sdk~=3.0.2'
	@if command -v npm >/dev/null; then npm install --silent --no-fund --no-audit --prefix $(VENV)/compat-clients \
		'@signalwire/compatibility-api@^3.2.0'; else echo "no npm: the JavaScript client is left out" >&2; fi

demo: $(INSTALLED) ## show one call from start to end, without a FreeSWITCH
	$(BIN)/fsctl demo

style: $(INSTALLED) ## formatting and lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

tests: $(INSTALLED) ## every test that needs no FreeSWITCH
	$(BIN)/python -m pytest -m 'not live'

check: style types tests ## all of the above; what CI runs

bench: $(INSTALLED) ## measure: CPU and latency per call, webhooks, memory
	$(BIN)/python -m tests.benchmarks

bench-instructions: $(INSTALLED) ## count the instructions a call costs, which no busy machine changes (valgrind)
	$(BIN)/python -m tests.benchmarks.instructions

bench-live: $(INSTALLED) ## measure calls over SIP through a real FreeSWITCH on this host
	$(BIN)/python -m tests.benchmarks.live

live: $(INSTALLED) ## tests against a real FreeSWITCH on this host's loopback
	$(BIN)/python -m pytest -m live

clean: ## remove what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
