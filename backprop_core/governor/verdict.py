"""Pure: how an attempt ended, in one word, one plain sentence and one exit status."""

from __future__ import annotations

import re
import signal
from dataclasses import replace

from backprop_core.deadline.budget import duration_text
from backprop_core.governor.observed import EndCause, Ending
from backprop_core.governor.survivor_commit import Survival
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import as_text, as_whole, as_word

EXIT_NOTHING_TO_RESUME = 124
EXIT_UNFINISHED = 124
"""Of a chain of boxes that ended before its script completed: whatever waits for the result must not go on."""
RAN_TO_ITS_END = "The training ran to its end."
"""Says no more than `completed` does."""
LONGEST_LINE = 300
_OURS = "backprop: "
MOST_NAMED = 3
_TRACEBACK = "Traceback (most recent call last)"
_LAUNCHERS = "ChildFailedError"
"""torchrun's own, which stands behind that of the worker that failed."""
_EXCEPTION = re.compile(r"[^\W\d]\w*(?:\.(?:[^\W\d]\w*|<locals>))*(?::.*)?")
"""The line that names an exception. Python 3.11 prints lines of carets at column 0 in front of it."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_ENDS_WITH_SCRIPT = ("pytorch", "pytorch loop", "keras loop", "loop")
"""Adapters of plain loops: that their session has completed says that the script has run to its end."""
_OUTCOMES = {
    EndCause.DEADLINE: Outcome.TIMEBOXED,
    EndCause.USER: Outcome.STOPPED,
    EndCause.REQUEST: Outcome.STOPPED,
    EndCause.TERMINATED: Outcome.PREEMPTED,
    EndCause.WARNED: Outcome.PREEMPTED,
    EndCause.HANGUP: Outcome.PREEMPTED,
    EndCause.MEMORY: Outcome.PREEMPTED,
    EndCause.NOTICE: Outcome.PREEMPTED,
}
_REASONS = {
    EndCause.DEADLINE: "The time box was used up",
    EndCause.USER: "You stopped it (Ctrl-C)",
    EndCause.REQUEST: "It was stopped by 'backprop stop'",
    EndCause.TERMINATED: "backprop was sent SIGTERM",
    EndCause.WARNED: "backprop was sent a warning signal",
    EndCause.HANGUP: "The terminal was closed",
    EndCause.MEMORY: "Memory was running out",
    EndCause.NOTICE: "The cloud is reclaiming this machine",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended, for people and programs.

    Attributes:
        outcome, reason: what is told.
        exit_status: of the command.
        sudden: the training had no time for a word: killed from outside, a segmentation fault, no memory.
    """

    outcome: Outcome
    reason: str
    exit_status: int
    sudden: bool = False


def judge(ending: Ending, *, resumable: bool, timeboxed_exit: int = 0) -> Verdict:
    """Put an ending into words.

    Args:
        ending: what was seen.
        resumable: there is a checkpoint that a later attempt can start from.
        timeboxed_exit: exit status for an early end with something to resume.
    """
    outcome, reason = _outcome(ending)
    if outcome is Outcome.COMPLETED:
        return Verdict(outcome, f"{reason}{_sentence_for_leftovers(ending.leftovers)}", 0)
    if outcome is Outcome.FAILED:
        code = ending.returncode
        status = code if code > 0 else 128 - code if code < 0 else 1
        return Verdict(outcome, reason, status, sudden=_died(ending))
    return Verdict(outcome, reason, timeboxed_exit if resumable else EXIT_NOTHING_TO_RESUME)


def _died(ending: Ending) -> bool:
    """Whether the training was cut off by itself or by somebody else than us; a launcher tells with a status of its own."""
    unfinished = ending.session.started is not None and ending.session.finished is None
    return ending.cause is None and (ending.returncode < 0 or (unfinished and ending.survival is not None))


def survived(verdict: Verdict, survival: Survival | None) -> Verdict:
    """The verdict with what a sudden death has cost: the step that training had come to, and the one that is saved."""
    text = survival_text(survival)
    return replace(verdict, reason=f"{verdict.reason.rstrip('.')}. {text}") if text else verdict


def survival_text(survival: Survival | None) -> str:
    """What was saved of a training that ended without a word; empty where nothing was."""
    if survival is None or survival.step is None:
        return ""
    died_at = survival.died_at
    if died_at is None or died_at == survival.step:
        text = f"Step {survival.step}, the last complete one, was saved."
    else:
        about = "" if survival.exact else "about "
        text = f"It had reached {about}step {died_at}; step {survival.step} was saved."
    if survival.compared_at is not None and survival.compared_at < survival.step:
        text += f" Arrays that looked unchanged were last compared in full at step {survival.compared_at}."
    return text


def _outcome(ending: Ending) -> tuple[Outcome, str]:
    told = _told_by_session(ending)
    if ending.cause is None:
        return _by_itself(ending, told)
    if told is not None and told[0] is Outcome.COMPLETED and (ending.returncode == 0 or _was_exiting(ending)):
        return told
    return _OUTCOMES[ending.cause], _sentence_for_cause(ending)


def _was_exiting(ending: Ending) -> bool:
    """A signal came while the interpreter was being taken down: a plain loop's session ends with the script."""
    started = ending.session.started or {}
    plain = bool(started.get("attached")) and started.get("framework") in _ENDS_WITH_SCRIPT
    return plain and ending.returncode < 0 and as_whole(started.get("pid")) == ending.pid


def _by_itself(ending: Ending, told: tuple[Outcome, str] | None) -> tuple[Outcome, str]:
    if ending.returncode < 0:
        return Outcome.FAILED, _sentence_for_signal(ending)
    if ending.returncode > 0:
        return Outcome.FAILED, _sentence_for_status(ending)
    if told is not None:
        return told
    if ending.session.started is not None and ending.session.finished is None:
        return Outcome.COMPLETED, "The script exited with status 0 inside its time box."
    return Outcome.COMPLETED, "The script exited with status 0."


def _told_by_session(ending: Ending) -> tuple[Outcome, str] | None:
    finished = ending.session.finished
    if finished is None:
        return None
    outcome = as_word(Outcome, finished.get("outcome"))
    if outcome in (None, Outcome.FAILED, Outcome.LOST, Outcome.RUNNING):
        return None  # the exit status tells: a script may catch what its box let through
    reason = (as_text(finished.get("reason")) or "").strip()
    return outcome, reason or (
        RAN_TO_ITS_END if outcome is Outcome.COMPLETED else "The training ended early."
    )


def _sentence_for_cause(ending: Ending) -> str:
    cause = ending.cause
    assert cause is not None
    text = _REASONS[cause]
    if cause in (EndCause.MEMORY, EndCause.NOTICE) and ending.detail:
        text = ending.detail.rstrip(".")
    if cause is EndCause.WARNED and ending.detail:
        text = f"backprop was sent {ending.detail}"
    told = ending.session.finished
    reason = None if told is None else as_text(told.get("reason"))
    if reason and cause is EndCause.DEADLINE:
        return reason
    if ending.killed:
        return f"{text}; the script did not exit and was killed."
    if ending.returncode == -signal.SIGTERM and ending.session.started is None:
        return f"{text}; the script does not catch SIGTERM and exited at once."
    return f"{text}."


def _sentence_for_leftovers(commands: tuple[str, ...]) -> str:
    """What became of a training that its launcher has left behind, or of any other process; empty without one."""
    if not commands:
        return ""
    several = len(commands) > 1
    named = ", ".join(commands[:MOST_NAMED]) + (", ..." if len(commands) > MOST_NAMED else "")
    return (
        f" It left {len(commands)} process{'es' if several else ''} running, which {'were' if several else 'was'} ended "
        f"with it: {named}. If that is the training, start it in the foreground, without '&' or nohup."
    )


def _sentence_for_signal(ending: Ending) -> str:
    number = -ending.returncode
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    after = duration_text(ending.used_s)
    if number == signal.SIGKILL:
        return f"The script was killed from outside ({name}) after {after}, often by the kernel because memory ran out."
    return f"The script was ended by {name} after {after}."


def _sentence_for_status(ending: Ending) -> str:
    line = last_error_line(ending.tail)
    memory = _sentence_for_memory(line)
    if memory:
        return memory
    last = last_line(ending.tail)
    said = ""
    if line and ending.returncode == 1:  # what Python ends with for an exception that nobody caught
        said = f": {line}"
    elif last.startswith(_OURS):  # a refusal, or why our part in the script is over
        said = f": {_whole_sentences(last.removeprefix(_OURS))}"
    elif last:
        said = f"; last line of its output: {last}"
    return f"The script failed with exit status {ending.returncode}{said}".rstrip(".") + "."


def _whole_sentences(text: str) -> str:
    """Without the last one where it may be cut off."""
    return text if len(_OURS + text) < LONGEST_LINE else text[: text.rfind(". ") + 1] or text


def _sentence_for_memory(line: str) -> str:
    """A sentence if the error says that memory ran out, on a GPU or of the machine."""
    small = line.lower()
    if "out of memory" in small and any(word in small for word in ("cuda", "hip", "outofmemoryerror", "gpu")):
        return f"The GPU ran out of memory: a smaller batch or another GPU may help. {line.rstrip('.')}."
    if "resource_exhausted" in small or "resourceexhaustederror" in small:
        return f"The device ran out of memory: a smaller batch may help. {line.rstrip('.')}."
    if small.partition(":")[0].endswith("memoryerror"):  # numpy has one of its own
        return "The script ran out of memory (MemoryError)."
    return ""


def last_error_line(tail: bytes) -> str:
    """The exception of the last traceback in some output, such as `ValueError: no`; else the last line that names an
    error; else the empty string.
    """
    lines = [line.removeprefix("  | ") for line in _lines(tail)]
    return _of_traceback(lines) or _named_like_an_error(lines)


def last_line(tail: bytes) -> str:
    """The last that was printed and that says something, without colours: carets and rules of dashes do not."""
    lines = (text for line in reversed(_lines(tail)) if any(map(str.isalnum, text := line.strip())))
    text = next(lines, "")
    return "".join(c for c in text if c.isprintable())[:LONGEST_LINE]


def _lines(tail: bytes) -> list[str]:
    return _COLOUR.sub("", tail.decode("utf-8", "replace")).replace("\r", "\n").splitlines()


def _of_traceback(lines: list[str]) -> str:
    """What stands below the frames of the last traceback that is not a launcher's about its workers."""
    found = ""
    for place, line in enumerate(lines):
        if _TRACEBACK not in line:
            continue
        below = (text.strip() for text in lines[place + 1 :] if text[:1].strip())
        text = next(filter(_EXCEPTION.fullmatch, below), "")
        if text and (not found or not text.partition(":")[0].endswith(_LAUNCHERS)):
            found = text[:LONGEST_LINE]
    return found


def _named_like_an_error(lines: list[str]) -> str:
    for line in reversed(lines):
        text = line.strip()
        name, colon, _ = text.partition(":")
        bare = name.rpartition(".")[2]
        if line[:1].isspace() or not bare.isidentifier():
            continue
        if bare.endswith(("Error", "Exception", "Interrupt", "Exit")) and (colon or text == name):
            return text[:LONGEST_LINE]
    return ""
