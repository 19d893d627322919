# On a fresh machine with make and Python 3.11 or newer, each target installs what it needs.

PYTHON ?= python3
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)
LOWEST := .venv-lowest/$(SCRIPTS)
INSTALLED := .venv/.installed
READY := .venv/.ready
DOCS := README.md $(wildcard docs/*.md docs/*/*.md) benchmarks/README.md
# Most tests keep one core busy, and one process's threads must not spin while another needs the core. A file's tests
# stay together: they share models and browsers. Tests of engines have a process of their own, which the exporter fills.
PYTEST = OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile
SITE = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # a broken link ends it; --quiet would hide it
PIP = -m pip install --quiet --disable-pip-version-check --no-compile
BENCHMARKS := $(filter-out benchmarks/record.py benchmarks/table.py benchmarks/folder_peer.py benchmarks/unknown.py \
	benchmarks/finetune.py benchmarks/tune.py benchmarks/duplicates.py benchmarks/quick.py,$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lowest lint check docs images notebook bench upgrade release

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## label the example images, and count the right answers
	$(BIN)/python examples/demo.py

test: $(READY) ## all tests except the slow ones: six minutes on two cores
	$(PYTEST) -m "not slow and not engines"
	$(BIN)/python -m pytest -m "not slow and engines" tests/models

test-slow: $(READY) ## kills, wheels, small trainings, browsers (Chromium)
	$(PYTEST) -m "slow and not engines"
	$(BIN)/python -m pytest -m "slow and engines" tests/models

# Old versions may call what their own newer dependencies deprecate, which is not ours to mend.
test-lowest: $(READY) ## the tests but the slow ones, with the lowest version of every dependency
	test -x $(LOWEST)/python || $(PYTHON) -m venv .venv-lowest
	$(BIN)/python tests/helpers/versions.py lowest > .venv-lowest/requirements.txt
	$(LOWEST)/python $(PIP) -r .venv-lowest/requirements.txt -e .
	$(LOWEST)/python -m compileall -qq -j 0 .venv-lowest || true
	OMP_WAIT_POLICY=passive $(LOWEST)/python -m pytest -n logical --maxprocesses 4 --dist loadfile -W ignore::DeprecationWarning

lint: $(READY) ## lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## lint, whether pasted output is current, and whether the site of docs/ builds
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cog --check $(DOCS)
	$(SITE)

docs: $(READY) ## renew the output pasted into README.md, docs/ and benchmarks/, and build site/index.html
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cog -r $(DOCS)
	$(SITE)

images: $(READY) ## make README's images again (Chromium); look at them afterwards
	$(BIN)/python docs/images/make.py

notebook: $(READY) ## run examples/classify.ipynb and keep what its cells show
	$(BIN)/python examples/notebook.py

bench: $(READY) ## measure every claim against its peer, into benchmarks/results; takes hours
	$(BIN)/python $(PIP) -c constraints.txt -e '.[bench]'
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python benchmarks/record.py $$script; done

# Nothing is uploaded and no tag is made: both are for a person to do, when all of this has passed.
release: check test test-slow ## all tests, sdist and wheel in dist/, what a package index would refuse, and what to type next
	rm -rf dist
	$(BIN)/python $(PIP) twine
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	@version=$$($(BIN)/zeroshot --version | cut -d ' ' -f 2); \
	printf '%s\n' "dist/ has $$version; next:" "  git tag -a v$$version -m $$version" "  git push origin v$$version" \
		"  $(BIN)/python -m twine upload dist/*"

upgrade: $(READY) ## install the newest dependencies and pin them in constraints.txt; run the tests afterwards
	$(BIN)/python $(PIP) --upgrade --upgrade-strategy eager -e '.[dev]'
	$(BIN)/python tests/helpers/versions.py pinned > constraints.txt

# `demo` needs zeroshot alone, all other targets what develops it. Both are repeated when the dependencies, their pins or the
# version in __init__.py change.
DEPENDENCIES := pyproject.toml constraints.txt src/zeroshot_cli/__init__.py

$(INSTALLED): $(DEPENDENCIES)
	@echo "installing zeroshot into .venv, once"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -c constraints.txt -e '.[review]'
	touch $@

# Compiled on all cores, and before the tests: Python may warn when it compiles, and warnings are errors there. Packages bring
# some files that no Python 3 compiles.
$(READY): $(DEPENDENCIES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -qq -j 0 .venv || true
	touch $(INSTALLED) $@
