# Two commands are all that a newcomer needs: `make run` and `make test`.
# `make` alone lists every target: the text after ## is its help.

PORT ?= 5000
DATA ?= ./modeltrail-data
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test check page bench lock clean

help: ## List the targets
	@printf 'Start here:\n'
	@sed -n 's/^\(run\|test\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST)
	@printf '\nFor contributors:\n'
	@sed -n 's/^\(check\|bench\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST)

run: page ## Set up, serve http://127.0.0.1:5000, and the first time log a real sweep (PORT=, DATA=)
	@$(BIN)/python examples/first_run.py --port $(PORT) --data $(DATA)

test: page ## Set up and run every test, in two processes (ARGS= goes to pytest)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: page ## Lint, types, import directions, schema compatibility, the page
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m modeltrail.schemas.compatibility
	@cd api/page && PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent check
	@cd api/page && PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent test

# Instant if nothing changed. Node and npm come with the environment.
page: .venv/installed
	@$(BIN)/python hatch_build.py

bench: .venv/installed ## Every benchmark, one after the other (each is one command: see benchmarks/)
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

lock: # Renew requirements.lock; needs uv, which only those who change dependencies have to have
	uv pip compile pyproject.toml --all-extras --group dev --python-version 3.11 --universal \
		--upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--no-annotate --quiet --output-file requirements.lock

clean: # Remove the environment and caches; never the data folder
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist api/page/node_modules api/modeltrail/api/page

# The stamp makes a second run instant; a new lock or new settings install again.
.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { \
		echo "Modeltrail needs Python 3.11 or newer. On Debian: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then :; \
	elif $(BIN)/python -m ensurepip >/dev/null 2>&1; then :; \
	elif "$(PYTHON)" -c 'import ensurepip' 2>/dev/null; then "$(PYTHON)" -m venv --clear .venv; \
	elif "$(PYTHON)" -m virtualenv --version >/dev/null 2>&1; then "$(PYTHON)" -m virtualenv --clear --quiet .venv; \
	elif command -v uv >/dev/null 2>&1; then uv venv --quiet --clear --seed --python "$(PYTHON)" .venv; \
	else echo "This Python cannot make environments. On Debian: sudo apt-get install python3-venv" >&2; exit 1; fi
	@echo "Installing into .venv (a minute or two, the first time only) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
