# make install | run | test | check | docs | bench | test-all; check-js alone looks at the pages' scripts, label-studio
# installs the server that some tests talk to
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JS_STAMP := node_modules/.installed
JOBS ?= 2
# Each process takes 2 GB; a file of tests stays whole in one of them (tests/support/shares.py).
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --durations 20
# Node checks the scripts of the pages and runs nothing of ours: who has none goes without, a build server may not.
NODE := $(shell node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null && command -v npm)

# Containers often set this: each of dozens of processes would then compile all that it imports once more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install run test check check-js docs bench test-all label-studio clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

run: $(STAMP)
	$(BIN)/cxr-ssl run --rounds 5 --out runs/quickstart --resume

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-all: $(STAMP)
	$(PYTEST)

label-studio: $(STAMP)
	$(BIN)/python -m tests.support.label_studio_server install

check: $(STAMP) check-js
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/cxr-ssl config check configs/*.yaml

ifneq ($(NODE),)
check-js: $(JS_STAMP)
	node_modules/.bin/biome ci --error-on-warnings
	node_modules/.bin/tsc
else ifeq ($(CI),true)
check-js:
	@echo "check-js: needs Node 18 or newer and npm" >&2; exit 1
else
check-js:
	@echo "check-js: skipped, the pages' scripts are not checked without Node 18 or newer and npm"
endif

$(JS_STAMP): package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	touch $@

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(STAMP)
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) node_modules site .mypy_cache .ruff_cache .pytest_cache
