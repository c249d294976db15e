# The two commands of the README are `make run` and `make test`; the rest is for those who work on Waterclock.

# Made when the clients are installed; newer than their list.
CLIENTS := target/venv/installed
CARGO_DENY := target/tools/bin/cargo-deny
# Made when the plugin's packages are installed.
PACKAGES := grafana/plugin/node_modules/.package-lock.json

.PHONY: run test lint plugin frontend backend deny bench conformance fuzz proof

run:
	cargo build --release
	./target/release/waterclock demo

test: lint $(CLIENTS) frontend
	cargo test --workspace

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# The real clients and readers that the tests drive, in an environment of their own.
$(CLIENTS): tests/clients/requirements.txt tests/clients/install.sh
	tests/clients/install.sh

# The Grafana plugin, whole, in grafana/plugin/dist.
plugin: frontend backend

# Needs Node 20 or later. What it builds is what tests/grafana.rs mounts in a browser.
frontend: $(PACKAGES)
	cd grafana/plugin && npm test && npm run build && npm run standin

# What of the plugin runs beside Grafana's server, for this machine, under the name by which Grafana looks for it. The tests have one from
# `cargo test`.
GRAFANAS_OS := $(shell uname -s | tr A-Z a-z)
GRAFANAS_ARCH := $(subst x86_64,amd64,$(subst aarch64,arm64,$(shell uname -m)))
backend:
	cargo build --release --package grafana-backend
	install -D target/release/gpx_waterclock grafana/plugin/dist/gpx_waterclock_$(GRAFANAS_OS)_$(GRAFANAS_ARCH)

$(PACKAGES): grafana/plugin/package-lock.json
	cd grafana/plugin && npm ci --ignore-scripts --no-audit --no-fund

deny:
	test -x $(CARGO_DENY) || cargo install --quiet --locked --root target/tools cargo-deny
	$(CARGO_DENY) check bans licenses sources

# Runs scripts, random operations, interleavings, kills and crashes, and writes docs/proof.md.
proof:
	PROOF=1 cargo test --workspace --test it -- --exact proof::the_page_says_what_is_tested

bench:
	cargo bench --bench subjects

# Other people's cases, where they stand beside the checkout.
conformance:
	cargo build
	tests/conformance.sh

# Needs a nightly compiler. Each target for FUZZ_SECONDS, from the corpus in the tree; what it finds on the way goes to
# tests/fuzz/found. `cargo test` runs the same bodies over the corpus on any compiler.
FUZZ_SECONDS := 60
CARGO_FUZZ := target/tools/bin/cargo-fuzz
fuzz:
	test -x $(CARGO_FUZZ) || cargo install --quiet --locked --root target/tools cargo-fuzz
	for target in log chunk values block manifest state statement lines times config request samples histogram; do \
	    mkdir -p tests/fuzz/found/$$target; \
	    PATH=target/tools/bin:$$PATH cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz $$target \
	        tests/fuzz/found/$$target tests/fuzz/corpus/$$target \
	        -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done
