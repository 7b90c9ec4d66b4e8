#!/bin/sh
# The main job on real data: an ordinary PyTorch training, stopped in time with a checkpoint, resumed to its end, listed.
set -eu
BIN=${BIN:-.venv/bin}
DEMO_HOME=${DEMO_HOME:-.demo}
rm -rf "$DEMO_HOME"
mkdir -p "$DEMO_HOME"
BACKPROP_HOME=$(cd "$DEMO_HOME" && pwd)/home
export BACKPROP_HOME OMP_NUM_THREADS=1

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

say "backprop run -m 0.25 --run-id digits examples/digits_pytorch.py -- --pause 0.02   # 15 seconds of a training of about 22"
# 124: a machine so busy that 15 seconds were over before training began; the resume below then starts from scratch.
"$BIN/backprop" run -m 0.25 --min-free-ram 0.5 --run-id digits --name demo examples/digits_pytorch.py -- --pause 0.02 ||
    [ $? -eq 124 ]

say "backprop resume digits -m 5                                                        # from where it stood, to the end"
"$BIN/backprop" resume digits -m 5 | tee "$DEMO_HOME/resumed.txt"

say "backprop list"
"$BIN/backprop" list

say "python examples/digits_pytorch.py                                                 # the same training, never cut"
BACKPROP_HOME="$BACKPROP_HOME-uncut" "$BIN/python" examples/digits_pytorch.py 2>/dev/null | tee "$DEMO_HOME/uncut.txt" | tail -n 1

cut_digest=$(sed -n 's/.*digest //p' "$DEMO_HOME/resumed.txt" | tr -d '\r')
uncut_digest=$(sed -n 's/.*digest //p' "$DEMO_HOME/uncut.txt")
if [ -n "$uncut_digest" ] && [ "$cut_digest" = "$uncut_digest" ]; then
    printf '\nThe same bits: %s, cut and uncut.\n' "$uncut_digest"
else
    printf '\nNot the same bits: cut %s, uncut %s.\n' "$cut_digest" "$uncut_digest" >&2
    exit 1
fi
