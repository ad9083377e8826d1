# make search | test | check: each works first and alone on a fresh clone.
# PYTHON=… chooses the interpreter for .venv, MODELS=… the file that `make search` reads.

MODELS ?= zoo.yaml
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help search test check format wheel gpu-check clean

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile

search: $(VENV)/.run ## search schedules for the models of zoo.yaml
	$(BIN)/iosfarm search --models $(MODELS)

test: $(VENV)/.dev ## run the tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code in shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: $(VENV)/.dev ## build the wheel and try it away from the checkout
	scripts/check-wheel $(VENV)

gpu-check: $(if $(PYTHON),,$(VENV)/.run) ## try a GPU (8 minutes); with PYTHON=python3 in that Python as it is
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(or $(PYTHON),$(BIN)/python) -m iosfarm doctor --gpu

clean: ## remove what make made
	rm -rf $(VENV) build dist iosfarm.egg-info

# The stamps: an environment is filled again only when what it is made from changes.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV) (a few minutes the first time)'
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV) (a few minutes the first time)'
	$(PIP) --editable '.[dev]'
	@touch $(VENV)/.run $@

$(BIN)/python:
	@python=$$(scripts/find-python $(PYTHON)) && "$$python" -m venv $(VENV)
