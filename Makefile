# `make` alone lists the targets. Everything runs in .venv, which only needs python3 and pip.

PYTHON ?= python3
JOBS ?= 2
TORCHVISION := 0.29.2

BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz support golden api figures docs docs-serve browser screenshot \
	build sbom audit release-check test-oldest test-newest clean

help: ## this list
	@sed -n 's/^\([a-z.-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep '## ' $(MAKEFILE_LIST)

.venv: $(STAMP) ## the environment, with the versions of constraints.txt

# torchvision is only a source of models for the tests: without its dependencies, or it would choose a torch of its own.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==$(TORCHVISION)
	touch $@

demo: $(STAMP) ## a pretrained EfficientNet-Lite0, quantized, exported, run in both runtimes
	PYTHONPATH=examples $(BIN)/python -m efficientnet_lite0.demo

test: lint ## everything that must hold before a commit
	$(BIN)/python tools/compile_schema.py --check
	$(BIN)/python -m pytest -q -n $(JOBS)

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP) ## time, memory and file size of exports
	$(BIN)/python tools/bench.py

fuzz: $(STAMP) ## damaged files for everything that reads them, a minute for each target
	$(BIN)/python tools/fuzz.py --seconds 60 --runs 1000000

support: $(STAMP) ## measure how each operator is computed, and write docs/support.md
	$(BIN)/python tools/gen_support_table.py

golden: $(STAMP) ## accept the graphs the lowerings write now; read the diff
	$(BIN)/python -m pytest -q -n $(JOBS) --update-golden tests/test_ops.py

api: $(STAMP) ## record the public interface as it is now; read the diff, and docs/stability.md
	$(BIN)/python -m pytest -q --update-golden tests/test_api.py

# The tests of the report's page are skipped without one. Installing it is for machines that build and throw away, as CI's.
browser: ## Debian's chromium, if no browser is there and apt-get may install one
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; \
	then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null; fi \
	|| true; command -v chromium >/dev/null || echo "no browser can be installed: the tests that need one are skipped"

screenshot: $(STAMP) browser ## the picture of the report in docs/
	$(BIN)/python tools/screenshot.py docs/report.png

figures: $(STAMP) ## draw docs/figures
	$(BIN)/python tools/figures.py

docs: $(STAMP) ## the documentation, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(STAMP) ## the documentation while you write it, on http://127.0.0.1:8000
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

build: $(STAMP) ## wheel and source distribution, in dist/
	$(BIN)/python -m build

# What only a release needs is installed for it.
RELEASE := .venv/.release
$(RELEASE): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	touch $@

release-check: $(RELEASE) test ## all of a release that a program can do: tests, build, installation, bill of materials, audit
	$(BIN)/python tools/release.py $(if $(FINAL),--final)

sbom: $(RELEASE) ## the bill of materials alone, in dist/
	$(BIN)/python tools/release.py --only build base extras materials

audit: $(RELEASE) ## the versions of constraints.txt against the known vulnerabilities; needs a network
	$(BIN)/python tools/release.py --only vulnerable

test-oldest: $(STAMP) ## the tests with the oldest supported versions (5 GB where pip finds no CPU build of PyTorch)
	$(BIN)/python tools/versions.py oldest --python $(PYTHON)

test-newest: $(STAMP) ## the tests with the newest versions there are
	$(BIN)/python tools/versions.py newest --python $(PYTHON)

clean: ## remove the environment, caches and builds
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site src/*.egg-info
	find src tests tools examples -name __pycache__ -type d -exec rm -rf {} +
