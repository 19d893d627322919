# On a fresh machine with Python 3.11 or newer and make, each target is the only command there is to type.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
DOCS := README.md $(wildcard docs/*.md) benchmarks/README.md
# Most tests keep one core busy, and threads of one process must not spin while another needs theirs. A file's tests stay
# together: they share models and browsers.
PYTEST = OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile
BENCHMARKS := $(filter-out benchmarks/record.py benchmarks/table.py,$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check docs images bench

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## label the example pictures with the bundled model
	$(BIN)/python examples/demo.py

test: $(READY) ## all tests but the slow ones: five minutes on two cores
	$(PYTEST)

test-slow: $(READY) ## kills, wheels, small trainings, browsers (Chromium)
	$(PYTEST) -m slow

check: $(READY) ## lint, format, types, import direction, pasted documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cog --check $(DOCS)

docs: $(READY) ## renew the output that is pasted into README.md, docs/ and benchmarks/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cog -r $(DOCS)

images: $(READY) ## make README's pictures again (Chromium); look at them afterwards
	$(BIN)/python docs/images/make.py

bench: $(READY) ## measure our claims against their peers, into benchmarks/results; takes long
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python benchmarks/record.py $$script; done

# One install for all targets, again when the dependencies change or the version, which __init__.py holds.
$(READY): pyproject.toml src/zeroshot_cli/__init__.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@
