#!/bin/sh
# Takes what `fuzz/run.sh` learnt into fuzz/corpus: few small inputs that cover the same code.
#
#     fuzz/minimise.sh [TARGET...]      (default: all targets)
set -eu
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="$PWD/target"
targets=${*:-$(cd fuzz_targets && ls ./*.rs | sed 's|.*/||; s|\.rs$||')}
for target in $targets; do
    mkdir -p "target/corpus/$target" "target/minimised/$target"
    rm -f "target/minimised/$target"/*
    cargo +nightly fuzz run "$target" -- -merge=1 -use_counters=0 -max_len=256 \
        "target/minimised/$target" "corpus/$target" "target/corpus/$target" 2>"target/$target.merge.log" >/dev/null
    # Inputs with a name of their own (frames of real peers) stay, whether or not they cover anything more;
    # those that libFuzzer named, by a hash, are replaced.
    find "corpus/$target" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
    cp "target/minimised/$target"/* "corpus/$target/"
    for seed in "corpus/$target"/*-*; do
        [ -f "$seed" ] && rm -f "corpus/$target/$(sha1sum "$seed" | cut -c1-40)"
    done
    echo "$target: $(ls "corpus/$target" | wc -l) inputs"
done
find corpus -type f -printf '%s\n' | awk '{ n += $1 } END { print n " bytes" }'
