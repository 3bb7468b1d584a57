# The one list of what a developer does here; each target is one script, which works without make too.
.PHONY: help demo quick test long bench lint format lock sbom ci clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: ## set up and run the main job once
	script/demo

quick: ## the tests that start no process: seconds
	script/test --quick

test: ## all tests but those that take minutes
	script/test

long: ## all tests
	script/test --long

bench: ## measure, with plots
	script/bench

lint: ## rules, format, types
	script/lint

format: ## correct rules and format where that can be done by itself
	script/lint --fix

lock: ## pin and hash the requirements anew from pyproject.toml
	script/lock

sbom: ## the bill of materials of what a server runs
	@script/sbom

ci: ## what has to pass before a change is taken
	.ci/run

clean: ## remove what the scripts made, the virtual environment included
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
