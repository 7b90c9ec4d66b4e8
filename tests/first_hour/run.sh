#!/usr/bin/env bash
# The first hour of five people, each from a fresh clone in a folder of its own: `make test-first-hour`.
# PEOPLE="student lab" runs some of them. FIRST_HOUR_BIN is the folder of an environment that has backprop; without it one is made, as the
# README says, with what the five need.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset $(env | sed -n 's/^\(BACKPROP_[A-Z_]*\)=.*/\1/p') PYTHONPATH 2>/dev/null || true
if [ -z "${FIRST_HOUR_BIN:-}" ]; then
    git clone --quiet "$root" "$tmp/install"
    "${PYTHON:-python3}" -m venv "$tmp/env"
    FIRST_HOUR_BIN=$tmp/env/bin
    echo "installing backprop[torch,notebook], scikit-learn and a notebook runner"
    "$FIRST_HOUR_BIN/pip" --quiet install --constraint "$root/constraints.txt" torch==2.13.0
    "$FIRST_HOUR_BIN/pip" --quiet install --constraint "$root/constraints.txt" "$tmp/install[torch,notebook]" scikit-learn nbclient ipykernel
fi
export PATH=$FIRST_HOUR_BIN:$PATH OMP_NUM_THREADS=1
for person in ${PEOPLE:-student kaggle lab cluster agent}; do
    start=$SECONDS
    git clone --quiet "$root" "$tmp/$person/clone"
    mkdir -p "$tmp/$person/home" "$tmp/$person/runtime"
    if (cd "$tmp/$person/clone" && HOME=$tmp/$person/home BACKPROP_RUNTIME_DIR=$tmp/$person/runtime \
            bash -euo pipefail -c ". '$here/steps.sh'; . '$here/$person.sh'" > "$tmp/$person.log" 2>&1); then
        echo "$person: reached the end in $((SECONDS - start)) s"
    else
        cat "$tmp/$person.log"
        echo "$person: stopped, see the last lines above"
        exit 1
    fi
done
