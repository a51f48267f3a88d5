#!/bin/sh
# Takes what `fuzz/run.sh` learnt into fuzz/corpus: the smallest set of inputs that covers the same.
set -eu
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="$PWD/target"
for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    mkdir -p "target/corpus/$target" "target/minimised/$target"
    rm -f "target/minimised/$target"/*
    cargo +nightly fuzz run "$target" -- -merge=1 -max_len=4096 \
        "target/minimised/$target" "corpus/$target" "target/corpus/$target" 2>"target/$target.merge.log" >/dev/null
    # Frames of real peers stay, whether or not they cover anything more.
    find "corpus/$target" -type f ! -name 'frame-*' -delete
    cp "target/minimised/$target"/* "corpus/$target/"
    for seed in "corpus/$target"/frame-*; do
        twin="corpus/$target/$(sha1sum "$seed" | cut -c1-40)"
        rm -f "$twin"
    done
    echo "$target: $(ls "corpus/$target" | wc -l) inputs"
done
du -sb corpus
