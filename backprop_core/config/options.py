"""Every option that a configuration file, the environment or the command line can set: one table, one set of
checks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backprop_core import contract
from backprop_core.config.spot_source import checked
from backprop_core.errors import BudgetError
from backprop_core.quick_dataclass import dataclass

Parse = Callable[[Any], Any]
"""Turns a raw value into the option's; raises ValueError where it is not allowed."""

YEAR_MIN = 366 * 24 * 60.0
WARNING_SIGNALS = ("USR1", "USR2", "XCPU")
"""What schedulers send before they end a job. SIGTERM, SIGINT, SIGQUIT and SIGHUP always mean: save and end."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_HOOK = re.compile(r"[a-z_]+=[^\n]*\S[^\n]*")
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Args:
        name: on the command line without dashes, and in the environment as `BACKPROP_<NAME>`.
        key: in a JSON file, camelCase, with a dot for a group. pyproject.toml has the same in kebab-case.
        parse: see `Parse`; takes text as well as JSON values.
        allowed: what may be given, for messages.
        default: when nobody says anything.
        help: one line for people.
        metavar: what stands for the value in the help; empty for a switch, which is `--name` or `--no-name`.
        short: on the command line, such as `-m`; or empty.
        repeatable: may be given more than once.
    """

    name: str
    key: str
    parse: Parse
    allowed: str
    default: Any
    help: str
    metavar: str = ""
    short: str = ""
    repeatable: bool = False

    def __post_init__(self) -> None:
        if not self.metavar and self.parse is not switch:
            raise ValueError(
                f"option {self.name} takes a value and does not say what stands for it in the help"
            )

    @property
    def env(self) -> str:
        return contract.PREFIX + self.name.upper().replace("-", "_")

    @property
    def kebab_key(self) -> str:
        """`gpu.minFreeVramMB` as `gpu.min-free-vram-mb`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.key).lower()


def number(least: float, most: float, *, above: bool = False) -> Parse:
    """A finite number between `least` (excluded with `above`) and `most`."""

    def parse(raw: Any) -> float:
        if isinstance(raw, str) and _NUMBER.fullmatch(raw.strip()):
            raw = float(raw)
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
            raise ValueError
        if not least <= raw <= most or (above and raw == least):
            raise ValueError
        return float(raw)

    return parse


def integer(least: int, most: int) -> Parse:
    """A whole number between `least` and `most`."""

    def parse(raw: Any) -> int:
        value: float = number(least, most)(raw)
        if value != int(value):
            raise ValueError
        return int(value)

    return parse


def choice(*words: str) -> Parse:
    """One of some words, in any case."""

    def parse(raw: Any) -> str:
        if not isinstance(raw, str) or raw.strip().lower() not in words:
            raise ValueError
        return raw.strip().lower()

    return parse


def switch(raw: Any) -> bool:
    """True or false, as JSON or as a word."""
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in _WORDS:
        return _WORDS[raw.strip().lower()]
    raise ValueError


def spot_source(raw: Any) -> str:
    """See `spot_source.py`."""
    return checked(text(raw))


def warning_signals(raw: Any) -> str:
    """Names of signals, with or without SIG, with commas between; "none" for none of them."""
    words = [word.strip().upper().removeprefix("SIG") for word in text(raw).split(",")]
    if words == ["NONE"]:
        return "none"
    if not set(words) <= set(WARNING_SIGNALS):
        raise ValueError
    return ",".join(name for name in WARNING_SIGNALS if name in words)


def text(raw: Any) -> str:
    """Any text that is not blank and that the operating system can take."""
    if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
        raise ValueError
    return raw


def program(raw: Any) -> str:
    """A program: a path is made absolute, a bare name is left to be looked up."""
    word = text(raw)
    return str(Path(word).expanduser().absolute()) if "/" in word or word.startswith("~") else word


def memory_limit(raw: Any) -> str:
    """`"80%"` of a GPU's memory, or a number of GB; given back as text."""
    if isinstance(raw, str) and raw.strip().endswith("%"):
        share: float = number(0, 100, above=True)(raw.strip()[:-1].strip())
        return f"{share:g}%"
    gigabytes: float = number(0, 4096, above=True)(raw)
    return f"{gigabytes:g}"


def minutes(*, above: bool = True) -> Parse:
    """Minutes from a number of them or from a duration such as `"90s"`, at most a year; 0 is excluded with `above`."""

    def parse(raw: Any) -> float:
        if isinstance(raw, str) and not _NUMBER.fullmatch(raw.strip()):
            raw = _seconds(raw) / 60.0
        value: float = number(0, YEAR_MIN, above=above)(raw)
        return value

    return parse


def seconds(most: float) -> Parse:
    """Seconds from a number of them or from a duration, from 0 to `most`."""

    def parse(raw: Any) -> float:
        if isinstance(raw, str) and not _NUMBER.fullmatch(raw.strip()):
            raw = _seconds(raw)
        value: float = number(0, most)(raw)
        return value

    return parse


def _seconds(written: str) -> float:
    from backprop_core.deadline.budget import parse_duration  # late: few values are written so

    try:
        return parse_duration(written, zero_allowed=True)
    except BudgetError as error:
        raise ValueError from error


def optional(parse: Parse) -> Parse:
    """Also nothing: null in a file."""
    return lambda raw: None if raw is None else parse(raw)


def packages(raw: Any) -> str:
    """Names of packages with commas between, or "none"."""
    if not isinstance(raw, str) or not all(name.strip().isidentifier() for name in raw.split(",")):
        raise ValueError
    return ",".join(name.strip() for name in raw.split(","))


def several(raw: Any) -> list[str]:
    """A list of texts; as one text they have commas between."""
    words = [word.strip() for word in raw.split(",") if word.strip()] if isinstance(raw, str) else raw
    if not isinstance(words, list | tuple):
        raise ValueError
    return [text(word).strip() for word in words]


def hooks(raw: Any) -> list[str]:
    """Texts of the form `KIND=COMMAND`: a list, one a line of a text, or an object of commands by kind."""
    if isinstance(raw, dict):
        raw = [f"{kind}={text(command)}" for kind, command in raw.items()]
    lines = [line for line in raw.splitlines() if line.strip()] if isinstance(raw, str) else raw
    if not isinstance(lines, list | tuple) or not all(_HOOK.fullmatch(text(line)) for line in lines):
        raise ValueError
    return list(lines)


FRAMEWORKS = ("auto", "pytorch", "lightning", "keras", "tensorflow", "transformers", "none")
PROCESS, TRAINING = "process", "training"
PROBES = ("auto", "nvml", "nvidia-smi", "rocm", "none")
_MINUTES = 'a number of minutes greater than 0 or a duration such as "90s" or "1h30m", at most a year'

OPTIONS: tuple[Option, ...] = (
    Option("max-run-minutes", "maxRunMinutes", minutes(), _MINUTES, 10.0,
           'Time box: minutes (fractions allowed) or a duration such as "90s" or "1h30m".',
           metavar="MINUTES", short="-m"),
    Option("budget-from", "budgetFrom", choice(PROCESS, TRAINING), f"{PROCESS} or {TRAINING}", PROCESS,
           "Start of the time box: the start of the process, or the first step of the training.",
           metavar="WHAT"),
    Option("framework", "framework", choice(*FRAMEWORKS), "one of " + ", ".join(FRAMEWORKS), "auto",
           "Framework of the script: " + ", ".join(FRAMEWORKS) + ".",
           metavar="NAME", short="-f"),
    Option("checkpoint-every-minutes", "checkpointEveryMinutes", optional(minutes()),
           _MINUTES, None,
           "Minutes (or a duration) between periodic checkpoints; by default saving takes at most 2% of the time.",
           metavar="MINUTES", short="-c"),
    Option("gpu-memory-limit", "gpuMemoryLimit", optional(memory_limit),
           'a share such as "80%" or a number of GB such as "8", at most 4096', None,
           'GPU memory that the run may use: "80%" or "8" (GB).',
           metavar="LIMIT", short="-g"),
    Option("max-parallel", "maxParallel", integer(1, 1024), "a whole number from 1 to 1024", 2,
           "Maximum number of runs at once on this machine.",
           metavar="COUNT", short="-p"),
    Option("min-free-ram", "minFreeRamGB", number(0, 65_536), "a number of GB from 0 to 65536", 4.0,
           "Minimum free memory (GB) to start a run.",
           metavar="GB"),
    Option("max-load", "maxLoadPerCpu", number(0, 100_000, above=True), "a number greater than 0, at most 100000", 8.0,
           "Maximum load average per CPU to start a run.",
           metavar="LOAD"),
    Option("gpu-probe", "gpu.probe", choice(*PROBES), "one of " + ", ".join(PROBES), "auto",
           "How to read GPUs: " + ", ".join(PROBES) + ".",
           metavar="NAME"),
    Option("gpu-min-vram", "gpu.minFreeVramMB", number(0, 4_194_304), "a number of MB from 0 to 4194304", 2500.0,
           "Minimum free GPU memory (MB) to start a run.",
           metavar="MB"),
    Option("gpu-max-temp", "gpu.maxTempC", number(20, 150), "a temperature from 20 to 150 °C", 85.0,
           "Maximum GPU temperature (°C): above it nothing starts, and a run pauses.",
           metavar="CELSIUS"),
    Option("wait", "wait", switch, "true or false", True, "Wait for resources; --no-wait gives up at once."),
    Option("wait-minutes", "waitMinutes", minutes(above=False),
           'a number of minutes, 0 or more, or a duration such as "90s", at most a year', 10.0,
           "Longest wait for resources, in minutes or as a duration.",
           metavar="MINUTES"),
    Option("grace", "grace", seconds(86_400), 'a number of seconds from 0 to 86400, or a duration such as "2m"', 30.0,
           "Seconds between the stop signal and the kill.",
           metavar="SECONDS"),
    Option("provenance", "provenance", switch, "true or false", True,
           "Record what each box was started from: git commit and changes, packages, host, GPU, seeds."),
    Option("replay-schedule", "replaySchedule", optional(text), "the id of a run, or a file of a recorded schedule", None,
           "Replay the schedule that another run recorded (BudgetLR) instead of following the clock: bit-identical.",
           metavar="RUN"),
    Option("strict", "strict", switch, "true or false", False,
           "Fail, instead of warning, when something changes during training that cannot be kept."),
    Option("keep-files", "keepFiles", switch, "true or false", False,
           "Keep the files that the script writes as they are on a resume, instead of rewinding them."),
    Option("warning-signals", "warningSignals", warning_signals,
           'some of ' + ", ".join(WARNING_SIGNALS) + ', separated by commas, or "none"', ",".join(WARNING_SIGNALS),
           "A scheduler's warning signals: save and stop. Others go to the script.",
           metavar="NAMES"),
    Option("watch-spot", "watchSpot", optional(spot_source),
           "aws, gcp or azure; with =http://host:port for a metadata service at another address", None,
           "Watch for the cloud's notice that it will reclaim this spot machine, then save and stop.",
           metavar="CLOUD"),
    Option("python", "python", optional(program), "an interpreter's path or name", None,
           "Interpreter for the script [default: backprop's own, or the active environment's if backprop is installed "
           "apart].",
           metavar="PROGRAM"),
    Option("rewrite", "rewrite", optional(packages), 'names of packages, separated by commas, or "none"', None,
           "Installed packages whose loops are counted like the script's own, so that training in them resumes exactly.",
           metavar="PACKAGE"),
    Option("timeboxed-exit-code", "timeboxedExitCode", integer(0, 255), "a whole number from 0 to 255", 0,
           "Exit status of a run that stopped early and can be resumed.",
           metavar="N"),
    Option("resume-flag", "resumeFlag", optional(text), "a flag of the script, such as --resume", None,
           "On a resume, append this flag and the checkpoint's path to the script's arguments.",
           metavar="FLAG"),
    Option("checkpoint-glob", "checkpointGlob", optional(text), 'a pattern such as "out/*.pt"', None,
           "Checkpoints that the script saves itself; the newest is recorded.",
           metavar="GLOB"),
    Option("sink", "sinks", several, "names of sinks, such as tensorboard or wandb:PROJECT", [],
           "Also send events to tensorboard, wandb, mlflow, or a sink that you installed. Repeatable.",
           metavar="NAME", repeatable=True),
    Option("tracker", "tracker", switch, "true or false", True,
           "On a resume, continue the script's W&B, MLflow or Comet run; --no-tracker starts a new one."),
    Option("on-end", "onEnd", optional(text), "a command", None,
           "Command to run at the end of each box; it gets the event as JSON on standard input.",
           metavar="COMMAND"),
    Option("on-event", "onEvent", hooks, "KIND=COMMAND, such as checkpoint_saved=./copy.sh", [],
           "Command to run for each event of a kind ('backprop docs events' lists the kinds). Repeatable.",
           metavar="KIND=COMMAND", repeatable=True),
)  # fmt: skip

BY_NAME = {option.name: option for option in OPTIONS}
