# The two commands of the README are `make demo` and `make test`; each does its complete set-up.
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
ROWS ?=
SHELL := /bin/bash
# setuptools warns about every editable install; a checkout uses one
PIP := PYTHONWARNINGS='ignore:Editable installation' \
  $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
DATES ?= all
.PHONY: help demo up test dates faults slow lint format bench install clean

help: ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.run ## Run candles through every topic and show gates, weights and next steps.
	@$(BIN)/manifold up --demo --report build/report.html --env-file deploy/profiles/demo.env

up: $(VENV)/.run ## Start the local stack and keep it running until Ctrl-C.
	@$(BIN)/manifold up --env-file deploy/profiles/demo.env

test: $(VENV)/.dev ## Run the tests, on a real Kafka, Valkey and schema registry.
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 8 --dist loadgroup --no-loadscope-reorder --ignore tests/slow $(PYTEST_ARGS)

faults: $(VENV)/.dev ## Run the fault tests at full length (100 kills, 2,000 histories of the executor, 200,000 invalid records).
	@MANIFOLD_FAULT_KILLS=100 MANIFOLD_HISTORIES=2000 MANIFOLD_INVALID_RECORDS=200000 \
	  $(BIN)/python -m pytest tests/faults tests/property/trading/test_executor_histories.py \
	  tests/property/records/test_invalid_records.py $(PYTEST_ARGS)

dates: $(VENV)/.dev ## Run demo, stack and tests at other dates, time zones and languages (DATES=short).
	-@deploy/setup.sh dates
	@$(BIN)/python -m tests.dates $(DATES)

slow: $(VENV)/.dev ## Run the slow tests: a walk-forward over twelve years of hourly candles, the alerts on a running stack.
	@$(BIN)/python -m pytest tests/slow $(PYTEST_ARGS)

lint: $(VENV)/.dev ## Check style and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## Format the code.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.bench ## Measure against named peers (ROWS="chain" for a part); writes build/bench.json.
	@$(BIN)/python -m tests.perf.bench $(ROWS)

install: $(VENV)/.run ## Install the command into the virtual environment.

clean: ## Remove the virtual environment and everything built.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@deploy/setup.sh run
	@python=$$(for p in $${PYTHON:-python3.11 python3.12 python3.13 python3}; do \
	  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done); \
	echo "setup: virtual environment $(VENV) with $$($$python --version)"; $$python -m venv $(VENV)
	@$(PIP) --upgrade pip wheel setuptools

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	@deploy/setup.sh run
	@echo "setup: installing Python packages (cppyy compiles once, about a minute)"
	@$(PIP) -e '.[embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@deploy/setup.sh test
	@$(PIP) -e '.[embedded,dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@deploy/setup.sh bench
	@$(PIP) -e '.[embedded,dev,bench]'
	@touch $@
