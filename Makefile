# make demo   the main job on real data          make test   everything that has to hold
# make check  style, types, layers               make bench  the figures, as JSON in bench/results
.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-fast bench changelog clean

## each worker computes with one thread: more of them only wait for each other
PYTEST = OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 --dist worksteal

help:
	@sed -n 's/^# //p' Makefile

setup:
	@scripts/setup.sh

demo: setup
	@.venv/bin/gatesmith demo

check: setup
	.venv/bin/ruff check src tests bench examples
	.venv/bin/ruff format --check src tests bench examples
	.venv/bin/mypy
	.venv/bin/lint-imports

test: check
	$(PYTEST) tests

test-fast: setup
	$(PYTEST) tests/unit

bench: setup
	.venv/bin/python bench/run.py

changelog: setup
	.venv/bin/towncrier build --yes

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
