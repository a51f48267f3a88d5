#!/bin/sh
# Fuzzes every target for the same time, one after the other, one process each:
#
#     fuzz/run.sh [SECONDS] [TARGET...]      (default: 60 seconds, all targets)
#
# Prints one line a target, "target: runs, findings", and exits with 1 if there was a finding; its input is
# then in fuzz/artifacts/TARGET. What is learnt meanwhile stays in fuzz/target/corpus; fuzz/corpus holds the
# small, minimised set that `cargo test -p raddle-wire` replays, and only `fuzz/minimise.sh` changes it.
set -u
cd "$(dirname "$0")" || exit 2
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-$(cd fuzz_targets && ls ./*.rs | sed 's|.*/||; s|\.rs$||')}
export CARGO_TARGET_DIR="$PWD/target"

cargo +nightly fuzz build >target.log 2>&1 || { cat target.log; rm -f target.log; exit 2; }
rm -f target.log
failed=0
for target in $targets; do
    mkdir -p "target/corpus/$target" "artifacts/$target" "corpus/$target"
    log="target/$target.log"
    before=$(ls "artifacts/$target" | wc -l)
    cargo +nightly fuzz run "$target" "target/corpus/$target" "corpus/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    findings=$(($(ls "artifacts/$target" | wc -l) - before))
    if [ "$findings" -gt 0 ] || [ -z "$runs" ]; then
        failed=1
        grep -E 'panicked|ERROR|SUMMARY' "$log" | head -5
    fi
    echo "$target: ${runs:-0} runs, $findings findings"
done
exit $failed
