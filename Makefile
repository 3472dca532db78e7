# cloudtap: `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
WORLDS ?= 100
SEED ?= 1
JOBS ?= $(shell nproc)
BENCH ?= *
# tests that run at a time, each in its own network namespace with its own Open vSwitch; most of
# their time they wait
LABS ?= 3

.PHONY: help setup setup-tests demo lab test check worlds bench lock audit docs clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install what is missing: Debian packages, then .venv (takes seconds if nothing is)
	@tools/setup

setup-tests:
	@tools/setup --tests

demo: setup  ## two tenants, a tap port each, real traffic: every copy checked (DAMAGE=missing|extra must fail)
	@tools/isolate /usr/bin/python3 mininet_topos/two_tenants.py

lab: setup  ## the network and controller of the demo, until Ctrl-C
	@tools/isolate /usr/bin/python3 mininet_topos/two_tenants.py --stay

test: setup-tests  ## all tests: the core, the controller, real Open vSwitch, Mininet, Suricata
	@status=0; \
	tools/tests tests/flows tests/controller tests/rules tests/installed -n 2 || status=1; \
	tools/tests --labs $(LABS) tests/ovs tests/lab || status=1; \
	exit $$status

check: setup  ## format, lint, types and the rules of the repository
	@status=0; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/mypy --strict flows controller || status=1; \
	$(BIN)/pytest -q tests/rules || status=1; \
	exit $$status

worlds: setup  ## random worlds on real Open vSwitch (WORLDS=1000 SEED=7 JOBS=2)
	@$(BIN)/python -m tests.ovs.parallel_worlds --worlds $(WORLDS) --seed $(SEED) --jobs $(JOBS)

bench: setup  ## benchmarks, each a ratio against a named peer (BENCH=install: one of them)
	@status=0; found=0; \
	for file in bench/bench_$(BENCH).py; do \
	    [ -e "$$file" ] || continue; found=1; \
	    tools/isolate $(BIN)/python -m "bench.$$(basename "$$file" .py)" || status=1; \
	done; \
	[ $$found = 1 ] || { echo 'there is no benchmark bench/bench_$(BENCH).py'; status=1; }; \
	exit $$status

lock:  ## write requirements/*.txt again from setup.cfg (UPGRADE=1: with newer versions)
	@tools/lock

audit: setup  ## look up known vulnerabilities of everything that is locked
	@tools/audit

docs: setup  ## regenerate the generated pages of docs/
	@$(BIN)/python tools/docs

clean:  ## remove what set-up and tools have created
	rm -rf .venv .setup.lock build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
