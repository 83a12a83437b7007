# Every target sets up what it needs (.venv, .tools) without root and says what is missing; `make help` lists them.
# Variables: PYTHON names the Python of .venv, VELITHON_PROXY_GO the go command, CC the C compiler, ARGS what a
# target passes on to its program.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

GOFUMPT_VERSION := v0.12.0
STATICCHECK_VERSION := v0.8.2
TOXIPROXY_VERSION := v2.12.0
GOVULNCHECK_VERSION := v1.9.0
GREMLINS_VERSION := v0.6.0

GO := $(or $(VELITHON_PROXY_GO),go)
CC ?= cc
ARGS ?=
MINUTES ?= 10
export CC PYTHON
# A go.work above this tree would replace the versions of go.mod.
export GOWORK := off

VENV := .venv
BENCH_VENV := .venv-bench
# Built anew for another Go: staticcheck refuses code that is newer than the compiler it was built with.
TOOLS = .tools/$(shell $(GO) env GOVERSION 2>/dev/null)
GOFUMPT = $(TOOLS)/gofumpt-$(GOFUMPT_VERSION)/gofumpt
STATICCHECK = $(TOOLS)/staticcheck-$(STATICCHECK_VERSION)/staticcheck
GOVULNCHECK = $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck
GREMLINS = $(TOOLS)/gremlins-$(GREMLINS_VERSION)/gremlins
TOXIPROXY = $(TOOLS)/toxiproxy-$(TOXIPROXY_VERSION)/server

GO_FOLDERS := $(wildcard core capi tools benchmarks tests)
PYTHON_FOLDERS := $(wildcard python tests benchmarks examples tools) setup.py
C_SOURCES := $(wildcard python/velithon_proxy/*.c capi/*.c)
C_HEADERS := $(wildcard capi/*.h python/velithon_proxy/*.h)
C_FLAGS := -std=gnu11 -Wall -Wextra -Werror -O2 -Icapi -DPy_LIMITED_API=0x030B0000

STEP := sh tools/step.sh

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: $(VENV) ## set up .venv and build the two native files into it
	@$(STEP) build sh tools/build_inplace.sh $(VENV)

.PHONY: demo
demo: build ## run an API gateway of three services, send real requests, let upstreams fail and come back
	@$(VENV)/bin/python examples/demo.py $(ARGS)

.PHONY: serve
serve: build ## keep the gateway of the demo up, to try it with curl
	@$(VENV)/bin/python examples/demo.py --serve $(ARGS)

.PHONY: test
test: ## lint, go test -race, pytest
	@$(MAKE) build
	@$(MAKE) lint
	@$(MAKE) test-go
	@$(MAKE) test-python

.PHONY: test-go
test-go: toolchain ## the Go tests under the race detector
	@$(STEP) test-go $(GO) test -race $(ARGS) ./...

.PHONY: test-python
test-python: build ## the Python tests; ARGS="-k fork" chooses some
	@$(VENV)/bin/python -m pytest $(ARGS)

.PHONY: lint
lint: ## all linters
	@$(MAKE) lint-go
	@$(MAKE) lint-c
	@$(MAKE) lint-python

.PHONY: lint-go
lint-go: $(GOFUMPT) $(STATICCHECK) ## gofumpt, go vet, staticcheck, import arrows, freshness of generated code
	@$(STEP) gofumpt sh tools/check_empty.sh "not formatted; run make format" $(GOFUMPT) -l $(GO_FOLDERS)
	@$(STEP) vet $(GO) vet ./...
	@$(STEP) staticcheck $(STATICCHECK) ./...
	@$(STEP) layers $(GO) run ./tools/layers
	@$(STEP) generated sh tools/check_generated.sh $(GO)
	@$(STEP) modules $(GO) mod tidy -diff

.PHONY: lint-c
lint-c: $(VENV) toolchain ## compile the C sources and headers with warnings as errors
	@$(STEP) lint-c sh tools/lint_c.sh $(VENV) "$(C_FLAGS)" $(C_SOURCES) $(C_HEADERS)

.PHONY: lint-python
lint-python: $(VENV) ## ruff (lint and format) and pyright
	@$(STEP) ruff $(VENV)/bin/python -m ruff check $(PYTHON_FOLDERS)
	@$(STEP) ruff-format $(VENV)/bin/python -m ruff format --check $(PYTHON_FOLDERS)
	@$(STEP) pyright $(VENV)/bin/python -m pyright

.PHONY: format
format: $(VENV) $(GOFUMPT) ## format the Go and Python sources
	@$(GOFUMPT) -w $(GO_FOLDERS)
	@$(VENV)/bin/python -m ruff check --fix --exit-zero $(PYTHON_FOLDERS)
	@$(VENV)/bin/python -m ruff format $(PYTHON_FOLDERS)

.PHONY: generate
generate: toolchain ## write the generated Go code anew
	$(GO) generate ./core/...

.PHONY: sanitize
sanitize: $(VENV) toolchain ## the bridge under AddressSanitizer and UBSan with a fake core in C
	@if [ -f tests/native/Makefile ]; then \
		$(STEP) sanitize $(MAKE) -C tests/native PYTHON="$(CURDIR)/$(VENV)/bin/python"; \
	else \
		echo "make: tests/native has no Makefile yet; nothing was checked" >&2; exit 1; \
	fi

.PHONY: harden
harden: build bench-build $(GOVULNCHECK) ## known holes, sanitizers, a hostile garbage collector, few descriptors, little memory
	@VELITHON_PROXY_GO=$(GO) sh tools/harden.sh $(VENV)/bin/python $(BENCH_VENV)/bin/python $(GOVULNCHECK)

.PHONY: profile
profile: bench-build ## where Go's time goes: a CPU profile of the core under 64 requests in flight
	@VELITHON_PROXY_GO=$(GO) sh tools/profile_core.sh $(BENCH_VENV)/bin/python $(ARGS)

.PHONY: mutants
mutants: toolchain ## seed bugs into copies of the core, one at a time, and see that a test notices each; 8 minutes
	@$(GO) run ./tools/mutants $(ARGS)

.PHONY: mutation
mutation: $(GREMLINS) ## change rules and parsers of the core in many small ways: tests must notice 9 of 10; 15 minutes; ARGS="core/retry"
	@sh tools/mutation.sh $(GREMLINS) $(ARGS)

.PHONY: bench-build
bench-build: $(BENCH_VENV)
	@$(STEP) build sh tools/build_inplace.sh $(BENCH_VENV)

.PHONY: bench
bench: bench-build ## measure against other clients and gateways; ARGS are those of benchmarks/run.py
	@$(BENCH_VENV)/bin/python benchmarks/run.py $(ARGS)

.PHONY: bench-quick
bench-quick: bench-build ## the same for a first look, in less than two minutes
	@$(BENCH_VENV)/bin/python benchmarks/run.py --quick $(ARGS)

# Built here because compiling them anew, with what guides a fuzzer, takes longer than a trial may.
FUZZERS := build/fuzz
.PHONY: fuzzers
fuzzers: toolchain
	@mkdir -p $(FUZZERS)
	@for package in core core/h1; do $(STEP) "fuzzers of $$package" $(GO) test -c -fuzz=Fuzz -o $(FUZZERS)/ ./$$package || exit; done

.PHONY: chaos
chaos: bench-build fuzzers $(TOXIPROXY) ## faults and loads, one line each: T1 to T13 on three servers; 12 minutes; ARGS="T2 T8" chooses
	@FUZZERS=$(FUZZERS) TOXIPROXY=$(TOXIPROXY) $(BENCH_VENV)/bin/python tests/trials $(ARGS)

.PHONY: soak
soak: bench-build ## a gateway under mixed load for MINUTES (10); memory, descriptors and goroutines over time
	@$(BENCH_VENV)/bin/python benchmarks/soak.py --minutes $(MINUTES) $(ARGS)

.PHONY: clean
clean: ## remove what was built, .venv and .tools
	rm -rf build dist vendor $(VENV) $(BENCH_VENV) .tools .pytest_cache .ruff_cache .hypothesis
	rm -rf python/velithon_proxy/*.so python/velithon_proxy/*.dylib python/velithon_proxy/_licenses python/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Both environments are checked by content, not by time: see tools/setup_venv.sh.
.PHONY: $(VENV) $(BENCH_VENV)
$(VENV):
	@sh tools/setup_venv.sh $(VENV) test,lint,demo
$(BENCH_VENV):
	@sh tools/setup_venv.sh $(BENCH_VENV) bench,harden

.PHONY: toolchain
toolchain:
	@python=$$(sh tools/find_python.sh) && "$$python" tools/check_toolchain.py

$(GOFUMPT): | toolchain
	@$(STEP) get-gofumpt env GOBIN="$(CURDIR)/$(@D)" $(GO) install mvdan.cc/gofumpt@$(GOFUMPT_VERSION)
$(STATICCHECK): | toolchain
	@$(STEP) get-staticcheck env GOBIN="$(CURDIR)/$(@D)" \
		$(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
$(GREMLINS): | toolchain
	@$(STEP) get-gremlins env GOBIN="$(CURDIR)/$(@D)" \
		$(GO) install github.com/go-gremlins/gremlins/cmd/gremlins@$(GREMLINS_VERSION)
$(TOXIPROXY): | toolchain
	@$(STEP) get-toxiproxy env GOBIN="$(CURDIR)/$(@D)" \
		$(GO) install github.com/Shopify/toxiproxy/v2/cmd/server@$(TOXIPROXY_VERSION)
$(GOVULNCHECK): | toolchain
	@$(STEP) get-govulncheck env GOBIN="$(CURDIR)/$(@D)" \
		$(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
