# `make help` lists what there is. On a machine with Python 3.11 or newer and nothing else, each
# target first makes .venv from requirements.lock. Works with GNU make 3.81 (macOS).

# The first of these that is new enough and can make a virtual environment is taken.
PYTHON = python3.13 python3.12 python3.11 python3
UV_VERSION = 0.13.9
VERSION = 3.13
PREFIX = /opt/validibot-maintenance
STORAGE = /srv/validibot/storage

VENV := .venv
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python
PIP_OPTIONS := -qq --no-input --disable-pip-version-check
OTHER := build/python
RULES := tests/flows/test_rules.py tests/maintenance/test_settings.py tests/test_architecture.py
SLOW_NEEDS := server or docker or browser or compose or system_postgres
BACKENDS = --extra s3 --extra gcs --extra kubernetes --extra docker-pool
SOURCES = $(wildcard flows tasks maintenance deployments demo benchmarks website tests)

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-python check format docs lock install sbom clean

# Prefect takes twice as long to import without byte code, and every run of a flow imports it.
unexport PYTHONDONTWRITEBYTECODE

# The stamp names the folder it was made in: a .venv that was moved or copied, or whose Python is
# gone, is made anew, as is one without a stamp (an install that was interrupted).
$(shell [ ! -e $(STAMP) ] || { [ "$$(cat $(STAMP))" = "$$(pwd -P)" ] && $(RUN) -c ''; } 2>/dev/null \
	|| rm -f $(STAMP))

help: ## List the targets and the variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@awk -F '^## | +: ' '/^## / { printf "  %-15s %s\n", $$2, $$3 }' Makefile

## ONCE=1 : demo: end after one run of every job, instead of serving the schedules
## SIZE=n : demo: load n submissions
## ARGS='...' : test, test-fast: options of pytest, such as ARGS='-x -k purge' or ARGS='-n0 --pdb'
## CRASHES=all : test, test-fast: crash runs at all points; a number repeats a sample of them
## VERSION=3.12 : test-python: the Python to test with, as a version or a path; by default 3.13
## PREFIX=, STORAGE= : install: the folder to install into, and that with Validibot's files
## UPGRADE=1 : lock: raise all packages to their newest versions

demo: $(STAMP) ## Show the whole system with sample data
	@exec $(RUN) -m demo $(if $(ONCE),--once) $(if $(SIZE),--size $(SIZE))

test: $(STAMP) ## Run all tests
	@exec $(RUN) -m pytest -n auto $(ARGS)

test-fast: $(STAMP) ## Run the tests that need no Prefect server, container engine or browser
	@exec $(RUN) -m pytest -n auto -m 'not ($(SLOW_NEEDS))' $(ARGS)

test-python: .venv-lock/bin/uv ## Run the rules' tests of all jobs with another Python
	@echo "Making $(OTHER) with Python $(VERSION) ..."
	@UV_PYTHON_DOWNLOADS=never .venv-lock/bin/uv venv --quiet --clear --python $(VERSION) $(OTHER)
	@.venv-lock/bin/uv pip install --quiet --python $(OTHER)/bin/python --require-hashes --no-deps \
		-r requirements.lock
	@exec $(OTHER)/bin/python -m pytest -n auto $(RULES) $(ARGS)

check: $(STAMP) ## Check format, lint and types
	@$(RUN) -m ruff format --check --quiet . || { echo "Format: run 'make format'" >&2; exit 1; }
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy --no-error-summary $(SOURCES)
	@echo "Format, lint and types are fine"

format: $(STAMP) ## Format the code and repair what lint can repair
	@$(RUN) -m ruff check --quiet --fix-only .
	@$(RUN) -m ruff format .

docs: $(STAMP) ## Build the documentation as a site in build/site, and renew its table of settings
	@$(RUN) -m website.settings_table
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict
	@echo "The documentation is in build/site/index.html"

lock: .venv-lock/bin/uv ## Resolve pyproject.toml into the lock files
	$(call lock,requirements.lock,$(if $(UPGRADE),--upgrade) $(BACKENDS) --extra embedded --extra docs --extra dev)
	@cp requirements.lock requirements-runtime.lock  # what is locked there is taken here, too
	$(call lock,requirements-runtime.lock,$(BACKENDS))

install: ## Install without Docker, with units for systemd (as root; docs/systemd.md)
	$(require-python)
	@exec sh deployments/systemd/install.sh $(lastword $(FOUND)) $(PREFIX) $(STORAGE)

sbom: $(STAMP) ## Write the software bill of materials to build/, and list the licences
	@exec $(RUN) .ci/sbom.py build/sbom.cdx.json

clean: ## Remove .venv and everything else that was made
	@rm -rf $(VENV) .venv-lock build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Prints "ready PYTHON", or "incomplete PYTHON" for one without the means to make a .venv.
FIND_PYTHON = found=; for python in $(PYTHON); do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	$$python -c 'import ensurepip, venv' >/dev/null 2>&1 && { found="ready $$python"; break; }; \
	found="$${found:-incomplete $$python}"; \
	done; echo $$found

define require-python
$(eval FOUND := $(shell $(FIND_PYTHON)))
$(if $(FOUND),,$(error Python 3.11 or newer is needed and was not found. Install it \
(Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13)))
$(if $(filter ready,$(FOUND)),,$(error $(lastword $(FOUND)) cannot make a virtual environment. \
Install what it lacks (Debian, Ubuntu: apt install $(lastword $(FOUND))-venv)))
endef

# With a stamp that is merely older than the lock the .venv is brought up to date in place. The lock
# is complete, hence --no-deps: pip before 24 (Debian 12 has 23.0) trips over extras with hashes.
$(STAMP): requirements.lock pyproject.toml
	$(if $(wildcard $(STAMP)),,$(require-python))
	@if [ -e $@ ]; then echo "Bringing $(VENV) up to date with requirements.lock ..."; rm -f $@; \
	else echo "Making $(VENV) with $(lastword $(FOUND)) ..."; \
		$(lastword $(FOUND)) -m venv --clear $(VENV); fi
	@echo "Installing the packages of requirements.lock (a minute or two the first time) ..."
	@$(RUN) -m pip install $(PIP_OPTIONS) --no-compile --require-hashes --no-deps -r requirements.lock
	@$(RUN) -m pip install $(PIP_OPTIONS) --no-compile --no-deps --no-build-isolation --editable .
	@echo "Compiling byte code ..."
	@$(RUN) -m compileall -qq -j 0 $(VENV)/lib $(SOURCES) || true  # some ship templates, not Python
	@pwd -P > $@
	@echo "$(VENV) is ready"

.venv-lock/bin/uv:
	$(require-python)
	@$(lastword $(FOUND)) -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip install $(PIP_OPTIONS) uv==$(UV_VERSION)

# One file for all platforms and Python versions, with a hash for every file of every package.
define lock
@.venv-lock/bin/uv pip compile --quiet --no-header --no-annotate --universal --python-version 3.11 \
	--generate-hashes $(2) --output-file $(1) pyproject.toml
@{ echo "# Made from pyproject.toml by 'make lock': do not edit. It is complete:"; \
	echo "# pip install --require-hashes --no-deps -r $(1)"; cat $(1); } > $(1).new
@mv $(1).new $(1)
endef
