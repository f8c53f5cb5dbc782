# Everything a newcomer or a CI machine needs; only Python, pip and make are assumed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Two for each processor, because the tests of whole processes mostly wait.
WORKERS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))
STAMP  := $(VENV)/.installed

.PHONY: install demo test lint soak bench simulate clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(BIN)/python -m compileall -q pilot skills
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python docs/examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak --timeout=3600

bench: $(STAMP)
	$(BIN)/python benchmarks/stream.py

simulate: $(STAMP)
	$(BIN)/python -m tests.simulation.swarm $(SIMULATE)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
