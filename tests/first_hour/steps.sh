# What the five scripts use to try a step and look at what it says.

# step WORDS... : the heading of what follows
step() { printf '\n== %s\n' "$*"; }

# says PATTERN COMMAND... : the command succeeds and prints it
says() { local want=$1; shift; "$@" > said.txt 2>&1 || { echo "status $? of: $*"; cat said.txt; return 1; }; cat said.txt; grep -q -e "$want" said.txt || { echo "not said by '$*': $want"; return 1; }; }

# has PATTERN FILE : a file that a program has written has it
has() { grep -aq -e "$1" "$2" || { cat "$2"; echo "not in $2: $1"; return 1; }; }

# refuses STATUS PATTERN COMMAND... : the command ends with this status and says why
refuses() {
    local status=0 want=$1 words=$2; shift 2
    "$@" > said.txt 2>&1 || status=$?
    cat said.txt
    [ "$status" = "$want" ] || { echo "status $status, not $want, of: $*"; return 1; }
    grep -q -e "$words" said.txt || { echo "not said by '$*': $words"; return 1; }
}

# until_said PATTERN FILE : waits until a program in the background has written it, for four minutes at most
until_said() { for _ in $(seq 2400); do grep -q -e "$1" "$2" 2>/dev/null && return; sleep 0.1; done; cat "$2"; echo "never said: $1"; return 1; }

# A machine that runs tests is busy; the people's own limits are tried where the script says so.
export BACKPROP_MAX_LOAD=1000 BACKPROP_MIN_FREE_RAM=0.2
