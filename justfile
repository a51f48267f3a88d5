# The checks that .ci/run makes, one by one. `just` alone lists them.

_list:
    @just --list --unsorted

# A whole mesh on this machine, with live traffic
demo:
    cargo run --release -- demo

# All tests that need only Rust; takes what cargo test takes
test *ARGS:
    ./test {{ARGS}}

# What is quick to look at before a commit
lint: fmt-check clippy purity text

# Format
fmt:
    cargo fmt --all
    cargo fmt --manifest-path fuzz/Cargo.toml

fmt-check:
    .ci/run fmt

clippy:
    .ci/run clippy

# Broken links in documentation comments
rustdoc:
    .ci/run rustdoc

# Licences, sources, known faults of dependencies
deny:
    scripts/check-deny

# The rules that hold the layers apart
purity:
    scripts/check-purity

# Leftovers, long files, paths of one machine
text:
    scripts/check-text

# Pages against the binary
docs:
    cargo build --release
    RADDLE_BIN=target/release/raddle scripts/check-docs

# Write the generated references anew
bless:
    RADDLE_BLESS=1 cargo test -p raddle-model --test reference
    RADDLE_BLESS=1 cargo test -p raddle-telemetry --test reference

# Load through two sidecars: nothing fails
smoke SECONDS="2":
    cargo build --release
    scripts/smoke-bench {{SECONDS}}

# Real SOFARPC peers; takes names of suites
interop *SUITES:
    cargo build --release
    interop/run.sh {{SUITES}}

# Every decoder, for so many seconds each
fuzz SECONDS="60" *TARGETS:
    fuzz/run.sh {{SECONDS}} {{TARGETS}}

# Instructions of the request path against the recorded number
icount *ARGS:
    scripts/icount {{ARGS}}

# Compare with other proxies, on a quiet machine; takes what `raddle bench compare` takes
bench *ARGS:
    cargo build --profile dist
    target/dist/raddle bench compare {{ARGS}}

# Everything that must hold before a change is taken; takes names of steps
ci *STEPS:
    .ci/run {{STEPS}}
