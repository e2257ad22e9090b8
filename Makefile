# Everything from a fresh machine: `make demo`, `make test`. Needs Python 3.11 or newer; the rest is set up here.
PYTHON ?= python3
# Bytecode is kept: without it every process compiles torch again, more than half of its start.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check slow site package clean

demo: $(READY)
	$(BIN)/muybridge demo --out demo

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Wheel and source archive in dist/, tried in an empty environment.
package: $(READY)
	@test -z "$$(git status --porcelain src pyproject.toml README.md)" || { git status --short src pyproject.toml README.md; \
	  echo "package: these are not committed, and would go into it. Commit or remove them"; exit 2; }
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --outdir dist
	$(BIN)/python -m pytest -m slow tests/test_package.py

site: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -d build/site-cache -c docs/site . build/site
	@echo build/site/index.html

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "muybridge needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo demo-quick dist build/site build/site-cache build/jupyter_execute
