# Every target sets up its own virtual environment in .venv on first use. Needs Python 3.10 or newer and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-all check fmt docs bench parity clean

demo: $(VENV)/.installed
	$(BIN)/detectron2 quickstart --output output/quickstart

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not gpu and not network and not parity"

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not gpu and not network"

parity: $(VENV)/.dev
	PYTHONPATH=. $(BIN)/python tests/parity/run.py check tests/parity/goldens

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy detectron2
	$(BIN)/codespell

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -q -W --keep-going -j 2 docs site
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m docs tests/docs

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[viz]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

clean:
	rm -rf $(VENV) build dist site output
