#!/bin/sh
# The main job on real data: a plain script that has never heard of backprop is stopped in time, resumed to its end, compared with an
# uninterrupted run, proven, and reported.
set -eu
BIN=$(cd "${BIN:-.venv/bin}" && pwd)
DEMO_HOME=${DEMO_HOME:-.demo}
rm -rf "$DEMO_HOME"
mkdir -p "$DEMO_HOME"
DEMO_HOME=$(cd "$DEMO_HOME" && pwd)
BACKPROP_HOME=$DEMO_HOME/home
export BACKPROP_HOME BACKPROP_MIN_FREE_RAM=0.5 OMP_NUM_THREADS=1
cd "$(dirname "$0")/unmodified"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
last_digest() { tr -d '\r' < "$1" | sed -n 's/.*digest //p' | tail -n 1; }

say "backprop run digits_torch.py -m 10s --budget-from training --run-id digits -- --pause 0.02   # 10 seconds of a training of about 22"
"$BIN/backprop" run digits_torch.py -m 10s --budget-from training --run-id digits --name demo -- --pause 0.02

say "backprop resume digits -m 5                                     # from where it stopped, to the end"
"$BIN/backprop" resume digits -m 5 | tee "$DEMO_HOME/resumed.txt"

say "python digits_torch.py                                          # the same training, without backprop"
"$BIN/python" digits_torch.py > "$DEMO_HOME/whole.txt"
tail -n 1 "$DEMO_HOME/whole.txt"

resumed=$(last_digest "$DEMO_HOME/resumed.txt")
whole=$(last_digest "$DEMO_HOME/whole.txt")
if [ -z "$whole" ] || [ "$resumed" != "$whole" ]; then
    printf '\nNot bit-identical: %s resumed, %s uninterrupted.\n' "$resumed" "$whole" >&2
    exit 1
fi
printf '\nBit-identical: %s, interrupted and uninterrupted.\n' "$whole"

say "backprop prove digits_torch.py --steps 30 --cuts 2              # that this is no accident"
"$BIN/backprop" prove digits_torch.py --steps 30 --cuts 2 -m 5

say "backprop list"
"$BIN/backprop" list

say "backprop report digits                                          # curves, time, boxes and checkpoints on one page"
"$BIN/backprop" report digits -o "$DEMO_HOME/report.html"
