#!/bin/sh
# Fuzzes every target for the same time, as many at once as there are processors, one process each:
#
#     fuzz/run.sh [SECONDS] [TARGET...]      (default: 60 seconds, all targets)
#
# Prints one line a target, "target: runs, findings", and exits with 1 if there was a finding; its input is
# then in fuzz/artifacts/TARGET. What is learnt meanwhile stays in fuzz/target/corpus; fuzz/corpus holds the
# small, minimised set that `cargo test -p raddle-wire` replays, and only `fuzz/minimise.sh` changes it.
set -u
cd "$(dirname "$0")" || exit 2
export CARGO_TARGET_DIR="$PWD/target"

# One target; called by what is below.
if [ "${1:-}" = --one ]; then
    seconds=$2 target=$3
    mkdir -p "target/corpus/$target" "artifacts/$target" "corpus/$target"
    log="target/$target.log"
    before=$(ls "artifacts/$target" | wc -l)
    cargo +nightly fuzz run "$target" "target/corpus/$target" "corpus/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    findings=$(($(ls "artifacts/$target" | wc -l) - before))
    echo "$target: ${runs:-0} runs, $findings findings"
    if [ "$findings" -gt 0 ] || [ -z "$runs" ]; then
        grep -E 'panicked|ERROR|SUMMARY' "$log" | head -5
        exit 1
    fi
    exit 0
fi

seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-$(cd fuzz_targets && ls ./*.rs | sed 's|.*/||; s|\.rs$||')}
cargo +nightly fuzz build >target.log 2>&1 || { cat target.log; rm -f target.log; exit 2; }
rm -f target.log
# shellcheck disable=SC2086
printf '%s\n' $targets | xargs -P "$(nproc)" -n 1 ./run.sh --one "$seconds" || exit 1
