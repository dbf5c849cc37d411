PORT ?= 8000
PYTHON_ENV := .venv/bin/python

help: ## list the targets
	@sed -n 's/^\([a-z -]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 36

demo: ## set everything up and serve the demo on http://127.0.0.1:8000/ (PORT=… changes it)
	@scripts/setup demo
	@$(PYTHON_ENV) manage.py migrate --verbosity 0
	@$(PYTHON_ENV) manage.py demo_users
	@echo "The demo is at http://127.0.0.1:$(PORT)/; its other pages are for alice (alice-demo) and bob (bob-demo)"
	@exec $(PYTHON_ENV) -m scripts.demo $(PORT)

cluster: ## serve the demo from three workers with Redis and nginx (PORT=… as above)
	@scripts/setup test
	@exec $(PYTHON_ENV) -m scripts.cluster $(PORT)

test: ## set everything up and run all of the proof
	@scripts/setup test
	@scripts/test

lint types floors javascript docs: ## run one stage of the proof
	@scripts/setup test
	@scripts/test $@

campaign: ## run what takes too long for make test, and print a table (hours)
	@scripts/setup campaign
	@$(PYTHON_ENV) -m scripts.campaign

foreign: ## run the suites of other packages with the encryption under them
	@scripts/setup test
	@$(PYTHON_ENV) -m tests.foreign

audit: ## ask for known flaws in the source, the workflow and the dependencies
	@scripts/setup test
	@scripts/audit

release-check: ## build both packages into dist/ and check what a release needs (RELEASING.md)
	@scripts/setup test
	@$(PYTHON_ENV) -m scripts.release_check

client: ## build the browser client from js/src
	@scripts/setup test
	@npm run --silent build

coverage: ## run the Python tests and write htmlcov/index.html
	@scripts/setup test
	@scripts/test python servers coverage
	@$(PYTHON_ENV) -m coverage html

vectors: ## make tests/vectors/*.json again
	@scripts/setup test
	@$(PYTHON_ENV) scripts/make_vectors.py

bench: ## measure what the figures in benchmarks/README.md say, and write them there (half an hour)
	@scripts/setup bench
	@$(PYTHON_ENV) -m benchmarks.suite --write
	@set -e; for each in sessions sealed_layer history browser stopping; do $(PYTHON_ENV) -m benchmarks.$$each; done

bench-quick: ## measure the most important of them (two minutes)
	@scripts/setup bench
	@$(PYTHON_ENV) -m benchmarks.suite --quick

docs-shots: ## take the pictures in docs/images again
	@scripts/setup test
	@$(PYTHON_ENV) scripts/screenshots.py

clean: ## remove the environments, caches, reports and the demo's database
	rm -rf .venv .tox node_modules build dist htmlcov .coverage .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf demo_project/data

.PHONY: help demo cluster test lint types floors javascript docs client campaign foreign coverage
.PHONY: audit release-check
.PHONY: vectors bench bench-quick docs-shots clean
