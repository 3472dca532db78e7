# cloudtap: `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
WORLDS ?= 100
SEED ?= 1
RELEASE ?= 13
JOBS ?= $(shell nproc)
BENCH ?= *
# two_tenants, or attach: a bridge that somebody else owns
DEMO ?= two_tenants
DEMO_FILE = mininet_topos/$(if $(filter attach,$(DEMO)),attached,$(DEMO)).py
# userspace or kernel, for worlds and bench
DATAPATH ?= userspace
BENCH_LAB = $(if $(filter kernel,$(DATAPATH)),tools/kernel-lab)
# core: what runs on the kernel datapath in `make test`; rest: what does not; all: both; no: leave it out of `make test`
KERNEL ?= all
KERNEL_TESTS = tools/kernel-lab tools/isolate tools/tests -q
# tests that run at a time, each in its own network namespace with its own Open vSwitch; most of
# their time they wait
LABS ?= 3
# ryu or os-ken, for controllers of tests, worlds and benchmarks that name no runtime; empty: the one of an installation
RUNTIME ?=
ifneq ($(RUNTIME),)
export CLOUDTAP_OPENFLOW__RUNTIME := $(RUNTIME)
endif

.PHONY: help setup setup-tests demo lab test test-kernel test-neutron check debian image worlds bench lock audit docs clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install what is missing: Debian packages, then .venv (takes seconds if nothing is)
	@tools/setup

setup-tests:
	@tools/setup --tests

demo: setup  ## two tenants, a tap port each, real traffic: every copy checked (DAMAGE=missing|extra must fail; DEMO=attach)
	@[ -e $(DEMO_FILE) ] || { echo 'there is no demo $(DEMO): take two_tenants, two_switches or attach'; exit 2; }
	@tools/isolate /usr/bin/python3 $(DEMO_FILE)

lab: setup  ## the network and controller of the demo, until Ctrl-C
	@tools/isolate /usr/bin/python3 mininet_topos/two_tenants.py --stay

test: setup-tests  ## all tests: the core, the controller, real Open vSwitch, Mininet, Suricata, the kernel datapath (RUNTIME=os-ken: on that)
	@status=0; kernel_tests() { exec $(KERNEL_TESTS) $$($(BIN)/python -m tests.kernel.suite core); }; \
	if [ $(KERNEL) = no ]; then kernel_tests() { echo 'left out, because of KERNEL=no'; }; fi; \
	kernel_tests >.kernel-lab.log 2>&1 & kernel=$$!; trap 'kill $$kernel 2>/dev/null' EXIT; \
	tools/tests tests/flows tests/controller tests/rules tests/installed -n 2 || status=1; \
	wait $$kernel || status=1; echo 'on the kernel datapath:'; cat .kernel-lab.log; \
	tools/tests --labs $(LABS) tests/ovs tests/lab || status=1; \
	exit $$status

test-kernel: setup-tests  ## tests on the kernel datapath, in a guest; before a release (KERNEL=rest: without those of `make test`)
	@$(KERNEL_TESTS) $$($(BIN)/python -m tests.kernel.suite $(KERNEL))

test-neutron: setup  ## tests beside a real Neutron that owns br-int; installs it, MariaDB and RabbitMQ first: before a release
	@tools/neutron-lab
	@tools/isolate $(BIN)/pytest -q tests/neutron

check: setup  ## format, lint, types and the rules of the repository
	@status=0; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/mypy --strict flows controller || status=1; \
	$(BIN)/pytest -q tests/rules || status=1; \
	exit $$status

debian:  ## demo, all tests and checks on another Debian, made from nothing (RELEASE=13; 12): before a release
	@tools/debian --fresh $(RELEASE) make demo
	@status=0; \
	for what in test check; do tools/debian $(RELEASE) make $$what || status=1; done; \
	exit $$status

image: setup-tests  ## build the image of packaging/Containerfile with podman, run it, compare its copies: before a release
	@$(BIN)/pytest -q tests/image

worlds: setup  ## random worlds on real Open vSwitch (WORLDS=1000 SEED=7 JOBS=2 DATAPATH=kernel)
	@$(BIN)/python -m tests.ovs.parallel_worlds --worlds $(WORLDS) --seed $(SEED) --jobs $(JOBS) --datapath $(DATAPATH)

bench: setup  ## benchmarks, each a ratio against a named peer (BENCH=install: one of them; BENCH=datapath DATAPATH=kernel)
	@status=0; found=0; \
	for file in bench/bench_$(BENCH).py; do \
	    [ -e "$$file" ] || continue; found=1; \
	    $(BENCH_LAB) tools/isolate $(BIN)/python -m "bench.$$(basename "$$file" .py)" || status=1; \
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
	rm -rf .venv .debian .neutron-lab .kernel-lab .kernel-lab.log .setup.lock build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
