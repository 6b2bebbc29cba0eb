# Two commands do everything: `make demo` and `make test`. Both install what they need first.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# `make gpu` works in .venv, or, where PYTHON is given, with that Python and the wheels in .wheels.
MINUTES ?= 9
OUT ?= runs/benchmarks/gpu
SITE := build/site
GIVEN := $(filter command line environment,$(origin PYTHON))

.PHONY: help install demo test results torch gpu wheels lint format clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install the locked dependencies into it

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

demo: $(STAMP) ## train MAMT on Spread with 8 seeds (6 to 7 minutes), show table and figures
	$(BIN)/python -m mamt_jax.experiments.demo

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

results: $(STAMP) ## draw results/paper and the tables of results/README.md again, of the records there are
	$(BIN)/mamt reproduce all --recorded --records results --out results/paper
	$(BIN)/python -m mamt_jax.experiments.generated results

torch: $(STAMP) ## check the PyTorch side of benchmarks/; installs PyTorch, which make test does without
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m pytest -q benchmarks

gpu: $(if $(GIVEN),,$(STAMP)) ## ask a GPU all there is to ask, within MINUTES=9; results in OUT=...
ifeq ($(GIVEN),)
	$(BIN)/python -m benchmarks gpu --minutes $(MINUTES) --out $(OUT) $(GPU)
else
	$(if $(wildcard .wheels/*.whl),$(PYTHON) -m benchmarks.wheels .wheels --install $(SITE))
	PYTHONPATH=$(CURDIR):$(CURDIR)/$(SITE) $(PYTHON) -m benchmarks gpu --minutes $(MINUTES) --out $(OUT) $(GPU)
endif

wheels: $(STAMP) ## fetch what a GPU machine without network may lack into .wheels
	$(BIN)/python -m benchmarks.wheels .wheels

lint: $(STAMP) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## apply the formatter and safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and the environment, but no runs
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
