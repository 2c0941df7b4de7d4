# What people type. Every rule works alone on a Debian machine that has Rust, as root or with
# sudo; what is missing is installed first.

# Seconds that `make fuzz` spends on each target.
FUZZ_SECONDS ?= 60

# How often `make stress` runs the suite.
STRESS_RUNS ?= 20

# Which tests `make test-mysql` runs (none: all).
MYSQL_TESTS ?=

# Which files `make mutants` changes (none: all that it is for).
MUTANTS_FILE ?=

# Which packages `make clients` tries.
CLIENTS ?= go node python ruby rust

# Seconds that `make soak` runs.
SOAK_SECONDS ?= 600

# Seconds that `make simulate` searches, the seed that it starts from (none: new ones), and the one
# that it repeats.
SIMULATE_SECONDS ?= 60
SIMULATE_FROM ?=
SIMULATE_SEED ?=

# The seed of `make model` (none: a new one), and how many histories it plays.
MODEL_SEED ?=
MODEL_HISTORIES ?= 50

# Seconds that `make hunt` hunts, the seed that it repeats (none: a new one), and where it hunts:
# nodes, replication, or (none) half of the time on each.
HUNT_SECONDS ?= 600
HUNT_SEED ?=
HUNT_GROUND ?=

# What `make dist` and `make deb` build for.
TARGET ?= x86_64-unknown-linux-musl

# Most tests wait for something, so twice as many as there are processors run at once.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

.PHONY: help run test test-mysql stress mutants check-deploy check-clients clients fuzz bench bench-quick \
	instructions soak hunt hunt-mysql hunt-proof galera bench-client simulate simulate-proof model explore \
	dist deb check-deb check-image deny docs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

run: ## Serve tickets on 127.0.0.1:8080 from a private MySQL server in .tickr/
	.ci/install linker
	# The database server is installed while the compiler works.
	.ci/install mysql & cargo build --profile quick && wait $$!
	target/quick/tickr dev

test: ## Check the format, lint, and run all tests
	.ci/install linker mysql lints strace
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo check --no-default-features --features client
	cargo build --release
	TICKR_RELEASED=$(CURDIR)/target/release/tickr cargo test

# But for one: it needs a statement that cannot be killed, and MySQL has none.
test-mysql: ## Run all tests, or MYSQL_TESTS, with MySQL instead of MariaDB; group replication
	.ci/install linker mysql strace
	cargo build --release
	mysqld=$$(.ci/mysql) && TICKR_TEST_MYSQLD=$$mysqld \
		TICKR_RELEASED=$(CURDIR)/target/release/tickr cargo test --test tickr -- \
		--skip a_connection_that_cannot_be_ended $(MYSQL_TESTS)
	TICKR_TEST_MYSQLD=$$(.ci/mysql) cargo test --test group

stress: ## Run all tests STRESS_RUNS (20) times beside two busy loops on two cores
	.ci/install linker mysql
	cargo build --release
	cargo test --no-run
	.ci/stress $(STRESS_RUNS)

mutants: ## Break the core line by line; a test must notice (MUTANTS_FILE: one file)
	.ci/install linker mutants
	.ci/mutants $(MUTANTS_FILE)

check-deploy: ## Check the dashboard, the alerts, the metrics and the units, which a systemd starts
	.ci/install linker mysql deploy
	cargo build
	.ci/check-deploy

check-clients: ## Try curl, wrk, ab, and nginx as a proxy; not one request may fail
	.ci/install linker mysql clients
	cargo build --release
	.ci/check-clients

clients: ## Try the packages of CLIENTS (all) with the real server and the libraries they work with
	.ci/install linker mysql python $(CLIENTS:%=clients-%)
	cargo build --profile quick
	for client in $(CLIENTS); do \
		echo "== $$client"; TICKR=$(CURDIR)/target/quick/tickr clients/$$client/test || exit 1; \
	done

fuzz: ## Run each fuzz target for FUZZ_SECONDS (60), from the corpus in fuzz/corpus
	.ci/install linker fuzz
	.ci/fuzz $(FUZZ_SECONDS)

bench: ## Measure beside nginx, Redis and others (12 min); writes README.md, benches/ and docs/
	.ci/install linker mysql bench
	cargo bench --bench compare

bench-quick: ## The same, shorter (under 6 min); writes to the target folder alone
	.ci/install linker mysql bench
	cargo bench --bench compare -- --quick

bench-client: ## Measure the Rust client beside an atomic and a mutex (under a minute)
	.ci/install linker
	cargo bench --bench client

instructions: ## Count the processor instructions of the pieces of an answer; no noise
	.ci/install linker valgrind
	.ci/instructions

soak: ## Run at full speed for SOAK_SECONDS (600); memory must stay flat
	.ci/install linker mysql bench
	cargo bench --bench compare -- --soak $(SOAK_SECONDS)

hunt: ## Kill, hang and cut everything for HUNT_SECONDS (600); no ticket twice (HUNT_SEED repeats)
	.ci/install linker mysql
	HUNT_SECONDS=$(HUNT_SECONDS) HUNT_SEED=$(HUNT_SEED) HUNT_GROUND=$(HUNT_GROUND) \
		cargo test --release --test hunt

hunt-mysql: ## The same, with MySQL instead of MariaDB
	mysqld=$$(.ci/mysql) && TICKR_TEST_MYSQLD=$$mysqld $(MAKE) hunt

hunt-proof: ## Break the program in each way that the hunt can see; it must find each
	.ci/install linker mysql
	.ci/hunt-proof 60

galera: ## Hunt on a cluster of three servers, all writing, for HUNT_SECONDS
	.ci/install linker mysql galera
	HUNT_SECONDS=$(HUNT_SECONDS) HUNT_SEED=$(HUNT_SEED) .ci/galera

dist: ## Build the static program and all that goes with it into target/dist/
	.ci/install linker static sbom
	.ci/dist $(TARGET)

deb: dist ## The same as a Debian package
	.ci/deb $(TARGET)

check-deb: ## Lint the package of `make deb`; install, upgrade and purge it in a fresh Debian
	.ci/install package
	.ci/check-deb

check-image: dist ## Start the image's root file system in a namespace and ask it for a ticket
	.ci/install mysql image
	.ci/check-image

docs: ## Build the pages as a site with search into target/docs/
	.ci/install linker docs
	.ci/docs

deny: ## Check the licences, sources and duplicates of the dependencies
	.ci/install linker deny
	cargo deny --locked --config .ci/deny.toml check bans licenses sources

simulate: ## Try allocators and nodes on virtual time for SIMULATE_SECONDS (60); SIMULATE_SEED repeats
	.ci/install linker
	cd simulation && cargo build --release
	cd simulation && $(foreach name,SIMULATE_SEED SIMULATE_FROM,$(if $($(name)),$(name)=$($(name)))) \
		SIMULATE_SECONDS=$(SIMULATE_SECONDS) target/release/simulate

simulate-proof: ## Break the core in each way of tests/sabotage; the simulator must find each
	.ci/install linker
	.ci/simulate-proof 60

model: ## Random statements on the simulator's MySQL and on real ones; answers and rows must agree
	.ci/install linker mysql
	cd simulation && $(if $(MODEL_SEED),MODEL_SEED=$(MODEL_SEED)) MODEL_HISTORIES=$(MODEL_HISTORIES) \
		cargo test --release --test model -- --nocapture

explore: ## Every history of two servers, two processes and an operator, to a depth
	.ci/install linker
	cd simulation && cargo build --release
	cd simulation && target/release/explore
