# The only entry point. `make help` lists what there is.

SWIFT        ?= swift
PYTHON       ?= python3
MODEL        ?= smollm2-135m-instruct
ARGS         ?=
SEEDS        ?= 300

# One configuration for everything: the tests run the code that is served.
FLAGS        := -c release --explicit-target-dependency-import-check error
APUS         := .build/release/apus
# The tests keep their copy of the model beside the checkout's other products.
TEST_HOME    := $(CURDIR)/.build-models
TEST_MODEL   := $(TEST_HOME)/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf
TEST_GEMMA   := $(TEST_HOME)/models/gemma-3-270m/gemma-3-270m-q4_k_m.gguf
PEERS_MODEL  ?= $(TEST_MODEL)
SANITIZED    := .build-sanitized
FUZZED       := .build-fuzz
RUNS         ?= 1000000
CLIENTS      := .venv-clients
CLIENT_STAMP := $(CLIENTS)/.installed
TEST_ENV     := APUS_TEST_MODEL="$(TEST_MODEL)" APUS_BINARY="$(CURDIR)/$(APUS)"

.DEFAULT_GOAL := help
.PHONY: help build serve test test-swift test-clients test-slow lint bench bench-peers simulate fuzz clean model \
	kernels kernels-check gpu-check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the release binary (.build/release/apus)
	$(SWIFT) build $(FLAGS) --product apus

serve: build ## fetch the default model if needed and serve it on 127.0.0.1:8000 (MODEL=…, ARGS=…)
	$(APUS) serve $(MODEL) $(ARGS)

model: build
	@$(APUS) pull smollm2-135m-instruct --home "$(TEST_HOME)"

test: lint test-swift test-clients ## everything CI runs: style, unit, simulation, model and client tests

test-swift: model
	$(SWIFT) build $(FLAGS) --build-tests
	# One after another: several engines at once would measure each other.
	# What failed is said again at the end, where a reader of a long log looks first.
	@mkdir -p .build
	@bash -o pipefail -c '$(TEST_ENV) $(SWIFT) test $(FLAGS) --skip-build --no-parallel 2>&1 | tee .build/test.log' \
	    || { grep -A 3 -E "recorded an issue|[Ff]atal error|Crash" .build/test.log; exit 1; }

$(CLIENT_STAMP): Tests/clients/requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --requirement Tests/clients/requirements.txt
	@touch $@

test-clients: model $(CLIENT_STAMP)
	$(TEST_ENV) $(CLIENTS)/bin/python -m pytest -q Tests/clients

# The kernels' tests without a model are a package of their own: AddressSanitizer has to be compiled into all of it.
test-slow: model ## 20,000 seeds of the simulation, a second model, kernels under AddressSanitizer, further clients
	@$(MAKE) --no-print-directory simulate SEEDS=20000
	@$(APUS) pull gemma-3-270m --home "$(TEST_HOME)"
	$(TEST_ENV) APUS_TEST_GEMMA="$(TEST_GEMMA)" $(SWIFT) test $(FLAGS) --skip-build --filter GemmaGoldenTests
	@mkdir -p $(SANITIZED)/Tests
	@cp Tests/CUDASanitizer/Package.swift $(SANITIZED)
	@for folder in Sources Kernels Tests/CUDAEmulator Tests/NCCLStub Tests/NCCLStubOld \
	    Tests/CUDABackendTests; do \
	    ln -sfn "$(CURDIR)/$$folder" "$(SANITIZED)/$$folder"; done
	$(SWIFT) test -c release --package-path $(SANITIZED) --sanitize=address --no-parallel
	$(PYTHON) -m venv $(CLIENTS)-slow
	$(CLIENTS)-slow/bin/pip install --quiet --requirement Tests/clients/requirements-slow.txt
	# Its pins are whole, and not those of the other clients.
	$(PYTHON) -m venv $(CLIENTS)-aiperf
	$(CLIENTS)-aiperf/bin/pip install --quiet --no-deps --requirement Tests/clients/requirements-aiperf.txt
	$(TEST_ENV) APUS_TEST_SLOW=1 APUS_AIPERF="$(CURDIR)/$(CLIENTS)-aiperf/bin/aiperf" \
	    $(CLIENTS)-slow/bin/python -m pytest -q Tests/clients/slow

lint: ## check formatting and the house style
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Models Tests
	$(PYTHON) Tests/style/check_style.py
	$(PYTHON) Tests/style/check_packages.py
	$(PYTHON) Kernels/spills.py

bench: build ## measure this machine: prefill, decode and batches of the default model
	$(APUS) bench $(MODEL) $(ARGS)

# LLAMA_SERVER, VLLM with VLLM_MODEL, OPENVINO with OPENVINO_MODEL name the peers; see docs/benchmarks/peers.py.
bench-peers: model ## run Apus beside llama.cpp, vLLM and OpenVINO, those that are here, into .build/peers (ARGS=…)
	$(PYTHON) docs/benchmarks/peers.py --apus $(APUS) --model "$(PEERS_MODEL)" $(ARGS)

# `swift test` alone would compile everything again, with what is internal made visible: a quarter of the speed.
simulate: ## run the scheduler simulation (SEEDS=…, or SEED=n for one)
	$(SWIFT) build $(FLAGS) --build-tests
	APUS_SIMULATION_SEEDS=$(SEEDS) $(if $(SEED),APUS_SIMULATION_SEED=$(SEED)) \
	    $(SWIFT) test $(FLAGS) --skip-build --no-parallel --filter SimulationTests

# A package of its own, compiled for coverage; the corpora are replayed by `make test`.
fuzz: ## give every parser RUNS=1000000 hostile inputs (TARGETS="request regex …")
	@mkdir -p $(FUZZED)/Tests
	@cp Tests/Fuzz/Package.swift $(FUZZED)
	@ln -sfn "$(CURDIR)/Sources" $(FUZZED)/Sources
	@ln -sfn "$(CURDIR)/Models" $(FUZZED)/Models
	@ln -sfn "$(CURDIR)/Tests/Fuzz" $(FUZZED)/Tests/Fuzz
	$(SWIFT) build -c release --package-path $(FUZZED)
	$(PYTHON) Tests/Fuzz/run.py $(FUZZED)/.build/release/fuzz $(FUZZED) $(RUNS) $(TARGETS)

kernels: ## compile the CUDA kernels to .build/kernels (nvcc: NVCC=…, the PATH, or fetched into .cuda)
	@$(PYTHON) Kernels/build.py

kernels-check: ## as kernels, and refuse spills, narrow loads and a stale Kernels/RESOURCES.md
	@$(PYTHON) Kernels/build.py --check
	@$(PYTHON) -m unittest discover --start-directory Tests/gpu --pattern 'test_*.py' --quiet

# The static binary has a build folder of its own: the other one's products are linked against Swift's libraries.
gpu-check: kernels-check ## pack what a GPU machine needs into .gpu, and check and measure here if this is one
	$(SWIFT) build $(FLAGS) --scratch-path .build-static --static-swift-stdlib --product apus -Xlinker -s
	@bash Tests/gpu/prepare.sh .build-static/release/apus .build/kernels .gpu
	@if nvidia-smi -L >/dev/null 2>&1; then bash Tests/gpu/gpu_check.sh; \
	    else echo "gpu-check: no GPU here; on a machine with one: bash Tests/gpu/gpu_check.sh"; fi

clean: ## remove everything built
	rm -rf .build .build-static $(SANITIZED) $(FUZZED) .cuda .gpu $(CLIENTS) $(CLIENTS)-slow $(CLIENTS)-aiperf $(TEST_HOME)
