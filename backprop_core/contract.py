"""The environment contract: every variable by which `backprop run` and the script's process understand each other.

The command writes them (`backprop_cli/contract.py`); the session inside the script, the start-up hook and the adapters read
them. No other file spells one of their names; `docs/cli.md` lists them. The command's options have variables of their own,
`BACKPROP_<OPTION>` (`config/options.py`); a name that is both means the same in both.

Imports nothing: every script's start-up reads it.
"""

from __future__ import annotations

PREFIX = "BACKPROP_"
"""How all of them, and the variables of options, begin."""
HOME = "BACKPROP_HOME"
"""Where all runs are kept. The user's own variable, too."""
RUNTIME_DIR = "BACKPROP_RUNTIME_DIR"
"""Where slots and tickets of this machine lie. Only read, never told to a script."""
RUN_ID = "BACKPROP_RUN_ID"
RUN_DIR = "BACKPROP_RUN_DIR"
"""The folder of the run; that it is set means that a governor started this script."""
ATTEMPT = "BACKPROP_ATTEMPT"
"""The number of the attempt, from 1."""
CHECKPOINT_DIR = "BACKPROP_CHECKPOINT_DIR"
"""A folder or an address."""
RESUME = "BACKPROP_RESUME"
""""1": go on from what the run has saved."""
RESUME_FROM = "BACKPROP_RESUME_FROM"
"""The checkpoint to go on from, where one was named or the newest is not in the run's own store."""
SCRIPT_RESUMES = "BACKPROP_SCRIPT_RESUMES"
""""1": the script is handed a checkpoint of its own and restores itself."""
ATTACH = "BACKPROP_ATTACH"
"""The framework that was recognised or asked for: whose adapter may attach itself."""
DEADLINE_MONOTONIC = "BACKPROP_DEADLINE_MONOTONIC"
"""Seconds on the monotonic clock of the boot named by `BOOT_ID`."""
BOOT_ID = "BACKPROP_BOOT_ID"
DEADLINE_WALL = "BACKPROP_DEADLINE_WALL"
"""Seconds since 1970, for processes of another boot or machine."""
BUDGET_S = "BACKPROP_BUDGET_S"
"""Seconds from the start of the attempt to its deadline."""
BUDGET_FROM_TRAINING = "BACKPROP_BUDGET_FROM_TRAINING"
""""1": the deadline is put off by what comes before the first step."""
DEADLINE = "BACKPROP_DEADLINE"
"""The user's own: seconds since 1970, or a time with its zone, at which all has to be over. Only read."""
TOTAL_S = "BACKPROP_TOTAL_S"
"""Seconds of `--total`, over all boxes of a chain."""
TOTAL_UNTIL_WALL = "BACKPROP_TOTAL_UNTIL_WALL"
"""Seconds since 1970 at which they are over."""
REPLAY_SCHEDULE = "BACKPROP_REPLAY_SCHEDULE"
"""The run whose recorded schedule is followed instead of the clock."""
JOB_END_WALL = "BACKPROP_JOB_END_WALL"
"""Seconds since 1970 at which the scheduler ends the job, less a margin."""
JOB_END_SOURCE = "BACKPROP_JOB_END_SOURCE"
"""How messages call it."""
GRACE_S = "BACKPROP_GRACE_S"
"""Seconds between the stop signal and the kill."""
CHECKPOINT_EVERY_S = "BACKPROP_CHECKPOINT_EVERY_S"
STRICT = "BACKPROP_STRICT"
""""1": what changes and cannot be kept is an error."""
PROVENANCE = "BACKPROP_PROVENANCE"
"""`0`: nothing is kept of what an attempt was started from. Only read, never told to a script."""
GOVERNOR_PID = "BACKPROP_GOVERNOR_PID"
STDERR = "BACKPROP_STDERR"
"""The pipe or terminal that the governor reads the script's standard error from (`own_line.identity`)."""
GPU_MEMORY_LIMIT = "BACKPROP_GPU_MEMORY_LIMIT"
"""`80%` of a GPU's memory, or a number of GB."""
GPU_MEMORY_TOTAL = "BACKPROP_GPU_MEMORY_TOTAL"
"""Bytes of the smallest GPU that the run was given, where they are known: TensorFlow does not tell them."""
NO_REWRITE = "BACKPROP_NO_REWRITE"
""""1": the script's loops are not counted."""
REWRITE_PACKAGES = "BACKPROP_REWRITE_PACKAGES"
"""Installed packages whose loops are counted like the script's own, separated by commas."""
KEEP_FILES = "BACKPROP_KEEP_FILES"
""""1": the files that the script writes are left alone on a resume."""
RANDOM_SEED = "BACKPROP_RANDOM_SEED"
"""What an unseeded script's random generators begin with, in each attempt of the run; hexadecimal."""
PROVE = "BACKPROP_PROVE"
"""Of `backprop prove`: the file that says where this attempt writes what it sees, and where it is to be cut. Passed on."""
TRACKERS = "BACKPROP_TRACKERS"
"""Trackers whose variables backprop has set, so that a resumed script goes on in its tracker's run; separated by commas."""
EVENT_PREFIX = "BACKPROP_EVENT_"
"""How the variables begin by which a command of `--on-event` and `--on-end` is told of its event."""

OF_ONE_ATTEMPT = tuple(
    value
    for name, value in list(globals().items())
    if name.isupper()
    and isinstance(value, str)
    and name not in ("PREFIX", "RUNTIME_DIR", "PROVE", "PROVENANCE", "EVENT_PREFIX")
)
"""What a script is told; none of it is passed on from a governor around this one."""
