# Two commands for newcomers: `make demo` and `make test`. Both need Python 3.11 or newer and nothing else.
# The first Python that runs and is new enough: a name on the PATH may be a version manager's shim that starts nothing.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
BIN := .venv/bin

.PHONY: demo test chaos bench check format openapi image clean

demo: .venv/.installed
	$(BIN)/storecue demo

test: .venv/.tested
	$(BIN)/python -m pytest -n 3 --dist worksteal

# The chaos suite for as long as docs/reliability.md says, about three hours; its table goes to benchmarks/.work.
chaos: .venv/.tested
	CHAOS=long CHAOS_FIGURES=benchmarks/.work/chaos.txt $(BIN)/python -m pytest -n 2 --dist worksteal -k "test_r or test_s9" tests

# A quarter of an hour; `make bench ARGUMENTS=--quick` takes three minutes. Writes benchmarks/RESULTS.md.
bench: .venv/.tested
	$(BIN)/python -m benchmarks $(ARGUMENTS)

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

image:
	docker build -t storecue:0.1.0 .

.venv/.created:
	@test -n "$(PYTHON)" || { echo "StoreCue needs Python 3.11 or newer, and there is none on the PATH" >&2; exit 1; }
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
