#!/bin/sh
# The whole way on a slice of real data: prepare, train, evaluate, promote; then one question, before and after.
#
#     KEFU=kefu sh finetune/recipes/demo.sh FOLDER
#
# FOLDER is made anew. It holds dataset, run and report, and a data folder of its own: releases of yours are not touched.
set -eu

kefu=${KEFU:-kefu}
out=${1:?"usage: demo.sh FOLDER"}
recipe=$(dirname "$0")/demo.toml
question="/support Hello, I would like to check the balance of my account."
rm -rf "$out"
mkdir -p "$out"
export KEFU_PATHS__DATA_DIR="$out/home" KEFU_DIALOGUE__TEMPERATURE=0

say() { printf '\n\033[1m%s\033[0m\n' "$1" >&2; }

say "1 of 4: prepare"
"$kefu" finetune prepare --recipe "$recipe" --out "$out/data"
say "2 of 4: train"
"$kefu" finetune train --recipe "$recipe" --data "$out/data" --out "$out/run"
say "3 of 4: evaluate"
"$kefu" finetune evaluate --run "$out/run" --data "$out/data" --against-base --register
say "4 of 4: promote"
before=$("$kefu" ask --no-adapter "$question")
"$kefu" adapters promote demo
after=$("$kefu" ask "$question")

say "One question, before and after"
printf 'Customer: %s\n\nBefore:   %s\n\nAfter:    %s\n\nReport:   %s\n' "${question#/support }" "$before" "$after" "$out/run/evaluation/report.html"
