PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-all lint audit docs wheel clean

# An installed environment is marked by a file, so that a second `make demo` starts at once.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/despur demo

test: lint
	$(BIN)/python -m pytest -n auto

test-all: lint
	$(BIN)/python -m pytest -m ''

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The site, in site/: strict, so that a warning is an error; nothing is fetched.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel --no-isolation

audit: $(VENV)/.installed-dev
	$(BIN)/pip-audit --skip-editable

clean:
	rm -rf $(VENV) demo site build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
