# Two commands for newcomers: `make demo` and `make test`. Both need Python 3.11 or newer and nothing else.
PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test check format openapi clean

demo: .venv/.installed
	$(BIN)/storecue demo

test: .venv/.tested
	$(BIN)/python -m pytest -n 2

check: .venv/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: .venv/.installed
	$(BIN)/python -m connector.web.openapi

.venv/.created:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.installed: .venv/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf .venv demo-data benchmarks/.work
