PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
ARGS ?=
MINUTES ?= 10
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo airflow alerts test pages faults chaos guards bench check format clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(STAMP) ## Install everything the demo and the tests need into .venv (nothing to do when it is current)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[airflow,embedded,otel]' --group dev
	@touch $@

demo: setup ## Run a small city on this machine and prove that nothing was lost: make demo ARGS="--help"
	$(BIN)/lienthong demo $(ARGS)

airflow: setup ## Run a small city with Airflow beside it until Ctrl-C; prints the address and the log-in: make airflow ARGS="--dossiers 2000"
	$(BIN)/lienthong airflow $(ARGS)

test: setup ## Run every test, against real servers that are started for it: make test ARGS="-k merge"
	@$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS) || { test $$? -eq 1 && echo && echo "The files of those that failed are run once more, by themselves: most depend on time." && \
	  $(BIN)/pytest $(ARGS) $$($(BIN)/python -m tests.again); }

pages: setup ## Look at our pages and Airflow's with Chromium, which pip cannot install (Debian: the package chromium)
	@command -v chromium >/dev/null || { echo "chromium is not installed (Debian: apt-get install chromium)" >&2; exit 1; }
	$(BIN)/pytest -m pages tests/web/test_browser.py tests/web/test_speed.py tests/dags/test_pages.py $(ARGS)

alerts: ## Try the alert rules out with promtool, which comes with Prometheus (Debian: the package prometheus)
	@command -v promtool >/dev/null || { echo "promtool is not installed; it comes with Prometheus (Debian: apt-get install prometheus)" >&2; exit 1; }
	promtool check rules docker/prometheus/rules.yaml
	promtool test rules docker/prometheus/rules.test.yaml

faults: setup ## Inject every fault one by one, one row each, into build/faults.json: make faults ARGS="--only 1,5 --seed x"
	$(BIN)/python -m tests.faults $(ARGS)

chaos: setup ## Mix faults at random under live load: make chaos MINUTES=10 ARGS="--seed x"
	$(BIN)/python -m tests.faults --chaos $(MINUTES) $(ARGS)

guards: setup ## Switch each rule off and see which test notices, into build/guards.json: make guards ARGS="--only 'kept deletes'"
	$(BIN)/python -m tests.guards $(ARGS)

bench: setup ## Measure throughput and latency
	$(BIN)/python -m benchmarks.run $(ARGS)

check: setup ## Lint and type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy dags/*.py

format: setup ## Put the code in the house format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

clean: ## Remove what setup, builds and tests left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
