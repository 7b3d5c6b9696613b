# The doors of this repository; CI calls the same ones. `make help` lists them.
# Only Python 3.11 or later, make and git are needed: scripts/venv.sh makes the environment from the lock file.
# Written for GNU make 3.81, which is what macOS has.

VENV ?= .venv
VENV_BENCH ?= $(VENV)-bench
TESTS ?=
# Two workers: enough to overlap waiting, few enough for timing tests on a small machine.
WORKERS ?= 2
# More for the real registries: their tests wait, for time limits, elections and restarts.
SERVER_WORKERS ?= 6
# Inputs that `make fuzz` tries, and the seconds after which it stops.
FUZZ_INPUTS ?= 1000000
FUZZ_SECONDS ?= 900
# Set on the command line to choose an interpreter; otherwise scripts/venv.sh finds one.
export PYTHON

BIN = $(VENV)/bin
CODE = src tests examples bench

.PHONY: help demo test servers test-servers check bench fuzz docs lock clean run-venv dev-venv
.DEFAULT_GOAL := help

help: ## this list
	@echo 'make DOOR, one of:'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1	\2/p' Makefile | expand -t 12
	@echo 'options: PYTHON=python3.12  VENV=.venv-3.12  TESTS="tests/unit -k breaker"  WORKERS=4  BENCH_ROUNDS=3  BENCH_PARTS="server hop"  FUZZ_INPUTS=100000'

demo: run-venv ## the example system (user and order) with one command; Ctrl-C ends it
	@echo ''
	@echo '  open   http://127.0.0.1:8102/orders/1    an order, with its user fetched from the user service'
	@echo '         http://127.0.0.1:8102/health      what order depends on      http://127.0.0.1:8102/metrics'
	@echo '  try    curl -i http://127.0.0.1:8102/orders -H "content-type: application/json" -d '"'"'{"user_id": "nobody", "item": ""}'"'"
	@echo '         cd examples/shop, then ../../$(BIN)/mizzen call order GET /orders/1 --explain'
	@echo '         or with routes order, stack order, config order in place of call'
	@echo ''
	@exec $(BIN)/mizzen dev examples/shop

test: dev-venv ## every test but the benchmarks and those on real registries
	$(BIN)/python -m pytest -n $(WORKERS) -m "not servers" $(TESTS)

servers: ## build the real registries that test-servers needs, from their Go modules (about 15 minutes the first time)
	@scripts/servers.sh

test-servers: dev-venv ## the suites on real Consul, etcd, Kubernetes and DNS, with the table of faults
	$(BIN)/python -m pytest -n $(SERVER_WORKERS) -m servers $(TESTS)

check: dev-venv ## format, lint, types, architecture
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy --strict src
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

fuzz: dev-venv ## a million mutilated requests and answers, judged by RFC 9112 and h11 (about 10 minutes)
	$(BIN)/python tests/fuzz/run.py --inputs $(FUZZ_INPUTS) --seconds $(FUZZ_SECONDS)

docs: dev-venv ## run every code block of README.md and docs/
	$(BIN)/python -m pytest -q tests/docs

bench: dev-venv ## what Mizzen costs beside Go, FastAPI and aiohttp, in one table of ratios (about 9 minutes)
	@PYTHON=$(abspath $(BIN))/python scripts/venv.sh $(VENV_BENCH) locks/bench.lock bare
	$(BIN)/python bench/run.py --peer-python $(VENV_BENCH)/bin/python

# uv resolves for every Python version and platform at once, which pip cannot; whoever changes a dependency needs it,
# nobody else does. Pins stay as they are unless UPGRADE is set. The locks must not say where packages come from:
# that is for the configuration of whoever installs them.
UV ?= uv
LOCKFLAGS = --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-emit-package mizzen --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: ## make locks/*.lock again (needs uv; UPGRADE=1 takes newer versions)
	@command -v $(UV) >/dev/null || { \
	  echo 'error: no $(UV) found; the locks are made with uv' >&2; \
	  echo '  fix: pip install uv, or make lock UV=/path/to/uv' >&2; exit 1; }
	cd locks && $(UV) pip compile $(LOCKFLAGS) run.in --output-file run.lock
	cd locks && $(UV) pip compile $(LOCKFLAGS) dev.in --output-file dev.lock
	cd locks && $(UV) pip compile $(LOCKFLAGS) bench.in --output-file bench.lock

clean: ## remove caches, build results and the example's databases (environments stay: rm -r .venv .venv-*)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist bench/out
	rm -f examples/shop/*.db examples/shop/*.db-wal examples/shop/*.db-shm examples/shop/*.db-journal
	find src tests examples bench -name __pycache__ -type d -prune -exec rm -rf {} +

run-venv:
	@scripts/venv.sh $(VENV) locks/run.lock

dev-venv:
	@scripts/venv.sh $(VENV) locks/dev.lock
