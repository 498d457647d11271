# The one place to start from: `make help` lists what there is. Each target's work is in deploy/dev, so
# that it can be read, and run, without make.
SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# What runs in the stack and the demo.
BINARIES := driftline driftline-collector driftline-correlator driftline-enricher driftline-indexer driftline-loadtest

# After `##` of each target: whether it needs root, its minutes on two cores once everything is compiled
# (a first build adds about ten), whether CI runs it, and what it does.

.PHONY: help
help: ## no | 0 | no | this table
	@awk -F ' *(: ##|[|]) *' \
	  'BEGIN { print "TARGET|ROOT|MINUTES|CI|WHAT IT DOES" } \
	   /^[a-z-]+: ##/ { sub(/^ */, "", $$2); print $$1 "|" $$2 "|" $$3 "|" $$4 "|" $$5 }' $(MAKEFILE_LIST) | \
	  while IFS='|' read -r target root minutes ci what; do \
	    printf '%-16s %-8s %-8s %-5s %s\n' "$$target" "$$root" "$$minutes" "$$ci" "$$what"; \
	  done
	@echo
	@echo "ROOT 'better': without root or BTF the live eBPF parts are left out, which is then said."

.PHONY: demo
demo: ## better | 2 | yes | drift in a fresh container becomes an alert, from nothing; OUT=DIR keeps the JSON
	@OUT="$(OUT)" deploy/dev/demo.sh

.PHONY: up
up: ## better | 1 | no | Kafka and the services, left running on this node
	@deploy/dev/needs.sh demo
	cargo build --locked $(addprefix -p ,$(BINARIES))
	@deploy/dev/kafka.sh up
	@deploy/dev/stack.sh up
	@echo "look further: KAFKA_BOOTSTRAP=$$(deploy/dev/kafka.sh bootstrap) target/debug/driftline alerts tail"

.PHONY: down
down: ## no | 1 | no | stops what up started; Kafka's data stays in target/kafka/data, DATA=delete deletes it
	@case '$(DATA)' in '' | delete) ;; *) echo "DATA is '$(DATA)'; it can be delete, or stay unset" >&2; exit 2 ;; esac
	@code=0; deploy/dev/stack.sh down || code=1; \
	  deploy/dev/kafka.sh down $(if $(DATA),--delete-data) && exit $$code

.PHONY: status
status: ## no | 0 | no | what of it runs
	@deploy/dev/kafka.sh status || true
	@deploy/dev/stack.sh status || true

.PHONY: lint
lint: ## no | 2 | yes | format, clippy, shellcheck, licences and the rules of the code's shape
	@deploy/dev/needs.sh build lint
	@deploy/dev/lint.sh

.PHONY: test
test: ## better | 4 | yes | every test, on a real Kafka and live containers
	@deploy/dev/test.sh

# Containers that come and go: make test-collector CHURN=5000
.PHONY: test-collector
test-collector: ## yes | 5 | test | the collector's part of it, with tables of every way into a container under each engine; CHURN=5000
	@$(if $(CHURN),DRIFTLINE_CHURN=$(CHURN)) deploy/dev/test-collector.sh

# Simulated seeds, those of loadtest/sim/seeds.txt first, to which one that fails is appended; one alone with its last steps:
# make sim SEED=7. Each commit tries seeds of its own, between 0 and 16,777,215; others: make sim FROM=1
SEEDS ?= 2000
SIM_FROM = $(or $(FROM),$(shell printf '%d' 0x$$(git rev-parse HEAD 2>/dev/null | cut -c1-6 | grep . || echo 1)))

.PHONY: sim
sim: ## no | 1 | yes | crashes, hangs, aborts and more against the cores and their executor, in virtual time
	cargo build -q --locked -p driftline-sim
	@$(if $(SEED),,echo "seeds from $(SIM_FROM); again with: make sim FROM=$(SIM_FROM) SEEDS=$(SEEDS)")
	@target/debug/driftline-sim $(if $(SEED),--seed $(SEED) --verbose,--from $(SIM_FROM) --seeds $(SEEDS) --failed-seeds loadtest/sim/seeds.txt)

# Faults against the services on three brokers. A batch of 100 faults has the next seed. The same again: make chaos SEED=7;
# a run that was stopped goes on when it is called again. Some kinds only: KINDS=kill-broker,scale. An
# hour of load without faults, in which memory has to stay flat: FAULTS=0 STEADY=60. Seeds of loadtest/chaos-seeds.txt first:
# FAILED_FIRST=1
FAULTS ?= 200
CHAOS_SEED = $(or $(SEED),$(shell printf '%d' 0x$$(git rev-parse HEAD 2>/dev/null | cut -c1-6 | grep . || echo 1)))

.PHONY: chaos
chaos: ## yes | 35 | 20 | kills, freezes, cuts and more under load, on three brokers: nothing lost, nothing twice; FAULTS=20, SEED=7, KINDS=scale, FAILED_FIRST=1
	@deploy/dev/chaos.sh --faults $(FAULTS) --seed $(CHAOS_SEED) $(if $(KINDS),--kinds $(KINDS)) $(if $(STEADY),--steady-minutes $(STEADY)) $(if $(FAILED_FIRST),--failed-first)

# One bug at a time in the services, each of which chaos has to notice; some only: make chaos-bugs BUGS=end-at-assignment
# The seed's plan begins with what shows bugs: services frozen for long, and correlators killed.
.PHONY: chaos-bugs
chaos-bugs: ## yes | 40 | no | planted bugs that chaos has to notice within 60 faults each; BUGS=NAME, SEED=7
	@deploy/dev/chaos-bugs.sh 60 $(or $(SEED),17104) $(BUGS)

# Of each target; some only: make fuzz SECONDS=600 TARGETS=tar
SECONDS ?= 60

.PHONY: fuzz
fuzz: ## no | 4 | no | the indexer's readers against arbitrary bytes, with nightly Rust
	@deploy/dev/needs.sh build
	@SECONDS_EACH=$(SECONDS) deploy/dev/fuzz.sh $(TARGETS)

# Repeats of each contender: make bench-images REPEATS=9; a file for the figures: JSON=FILE
REPEATS ?= 5

.PHONY: bench-images
bench-images: ## better | 4 | no | indexing against inflate and SHA-256 alone, tar and sha256sum, umoci; lookups; restart of the store; JSON=FILE
	@deploy/dev/needs.sh build images
	cargo bench --locked -p driftline-indexer --bench images -- --repeats $(REPEATS) $(if $(JSON),--json $(abspath $(JSON)))
	cargo bench --locked -p driftline-enricher-core --bench index
	cargo bench --locked -p driftline-enricher --bench store

# Execs in each turn: make bench-collector EXECS=2000
EXECS ?= 20000

.PHONY: bench-collector
bench-collector: ## yes | 12 | no | what an exec costs under the collector, bpftrace, execsnoop and auditd; EXECS=2000, REPEATS=5, JSON=FILE
	@deploy/dev/bench-collector.sh $(REPEATS) $(EXECS) $(if $(JSON),$(abspath $(JSON)))

# Kafka away for longer than the 40 s of `make test`
OUTAGE_S ?= 600

.PHONY: test-outage
test-outage: ## no | 12 | test | services wait for a Kafka that is frozen for ten minutes, and go on; OUTAGE_S=60
	@DRIFTLINE_OUTAGE_S=$(OUTAGE_S) deploy/dev/test.sh --workspace --test it outage::

# Random stacks of layers; one of them alone with its members: make test-images SEED=7
STACKS ?= 2000

.PHONY: test-images
test-images: ## yes | 8 | yes | what podman and umoci unpack of random layers against our merged index; STACKS=300
	@deploy/dev/test-images.sh $(STACKS) $(SEED)

.PHONY: test-kernels
test-kernels: ## no | 2 | yes | the collector's self-test on Debian's kernels, booted under emulation; SUITES="bookworm sid"
	@deploy/dev/kernel-test.sh $(SUITES)

.PHONY: test-kubernetes
test-kubernetes: ## no | 1 | no | the collector's Kubernetes client against a real kube-apiserver, compiled once in ten minutes
	@deploy/dev/kubernetes-test.sh

.PHONY: golden
golden: ## no | 1 | no | writes the expected files of the formats and the table of verdicts anew; look at the diff
	UPDATE_GOLDEN=1 cargo test -q --locked -p driftline-formats -p driftline-detection

.PHONY: generate
generate: ## no | 1 | no | writes generated files anew: records from schemas/generate, settings from service/settings; FREEZE=1 freezes changed schemas
	@cargo run -q --locked -p driftline-generate -- $(if $(FREEZE),--freeze)
	@UPDATE_GENERATED=1 cargo test -q --locked -p driftline-settings generated

.PHONY: bench-core
bench-core: ## no | 3 | no | benchmarks of the code on the hot path
	cargo bench --locked -p driftline-schemas -p driftline-correlator-core -p driftline-enricher-core
