"""Whether backprop joins a script that has never heard of it, and which of several ways does.

`backprop run` names in BACKPROP_ATTACH what may attach. The start-up hook and the frameworks' own entry points ask here
first; without `backprop run` they do nothing. This module is all that such a process loads, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from backprop_core import contract
from backprop_core.launched_rank import is_first
from backprop_core.own_line import print_line

TYPE_CHECKING = False  # typing itself would cost every start 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_MAY_ATTACH: Mapping[str, frozenset[str]] = {
    "auto": frozenset({"pytorch", "lightning", "keras", "transformers"}),
    "pytorch": frozenset({"pytorch", "transformers"}),
    "lightning": frozenset({"lightning"}),
    "keras": frozenset({"keras"}),
    "tensorflow": frozenset({"keras"}),
    "transformers": frozenset({"transformers"}),
    "none": frozenset(),
}

_HELPERS_BY_CODE = (
    "from multiprocessing.resource_tracker import",
    "from multiprocessing.semaphore_tracker import",
)
_HELPERS_BY_MODULE = (".popen_loky_posix", ".resource_tracker", "torch._inductor.compile_worker")
"""What helpers of multiprocessing, loky and torch are started with. A fork server is none: what it forks may train."""

COUNTS_LOOPS = {"auto": None, "pytorch": "torch", "keras": "keras", "tensorflow": "keras"}
"""Where loops are counted, and which module the script has to have imported then."""
_standing_by: Callable[[], None] | None = None
_sessions = 0
_counted = False
_newest: object = None
_surround: Callable[[Any], object] | None = None


def may_attach(framework: str, *, every_rank: bool = False, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a script under `backprop run` to which the adapter of `framework` may attach itself.

    Not in the helpers of a library, such as loky's workers. Children of `multiprocessing` may train; whether the run's
    session is free is found out when a training begins in one.

    Args:
        every_rank: the adapter knows how several processes of one training agree; otherwise only the first is attached to.
    """
    if not environ.get(contract.RUN_DIR) or not environ.get(contract.ATTEMPT):
        return False
    if framework not in _MAY_ATTACH.get(environ.get(contract.ATTACH, "none"), ()):
        return False
    return not is_helper(sys.orig_argv) and (every_rank or is_first(environ))


def is_helper(argv: Sequence[str]) -> bool:
    """Whether an interpreter that was started so serves another process, and never trains.

    It is asked what the interpreter was told to run, and not what a script or its arguments are called.
    """
    option, what = _told_to_run(argv)
    if option == "c":
        return what.lstrip().startswith(_HELPERS_BY_CODE)
    return option == "m" and what.endswith(_HELPERS_BY_MODULE)


def _told_to_run(argv: Sequence[str]) -> tuple[str, str]:
    """`c` and the code, `m` and the module, or two empty strings for a script."""
    words = iter(argv[1:])
    for word in words:
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(words, "")
            continue
        if not word.startswith("-") or word == "-":
            return "", ""
        for place, letter in enumerate(word[1:], start=2):
            if letter in "cmWX":  # these take a value: the rest of the word, or the next one
                value = word[place:] or next(words, "")
                if letter in "cm":
                    return letter, value
                break
    return "", ""


def may_rewrite(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the loops of the script that this process runs may be counted: under `backprop run`, in no helper."""
    if not environ.get(contract.RUN_DIR) or not environ.get(contract.ATTEMPT):
        return False
    return environ.get(contract.ATTACH) in COUNTS_LOOPS and not is_helper(sys.orig_argv)


def is_one_of_several(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher has started several processes of one training, of which this is one."""
    count = environ.get("WORLD_SIZE", "")
    return count.isdigit() and int(count) > 1


def wants_this_loop(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a loop that trains is one of the framework that was asked for, as far as modules tell."""
    module = COUNTS_LOOPS.get(environ.get(contract.ATTACH, ""))
    return module is None or module in sys.modules


def loops_are_counted(*, yes: bool = True) -> None:
    """Loops through which the script trains have been found and are counted, so nobody need watch them from outside."""
    global _counted
    _counted = yes


def counts_loops() -> bool:
    """Whether the script's own loops are counted."""
    return _counted


def boxes_only_surround(make: Callable[[Any], object]) -> None:
    """The script has been read: it has time boxes that stand around its loops, and none that tells boundaries itself.

    Args:
        make: a box of such settings, or None where its loops are not counted after all.
    """
    global _surround
    _surround = make


def boxes_surround() -> bool:
    """Whether the script's time boxes only stand around its loops, so that these may be counted."""
    return _surround is not None


def box_around_counted_loops(settings: Any) -> object:
    """The box that the script asks for, where it need only show the session of its counted loops; else None."""
    return None if _surround is None else _surround(settings)


def stand_by(step_aside: Callable[[], None]) -> None:
    """Something waits for a training of any kind; `step_aside` is called when a session is opened by somebody else."""
    global _standing_by
    _standing_by = step_aside


def a_session_was_opened() -> bool:
    """Whether this process has or had a session: then nobody need wait for another training in it."""
    return _sessions > 0


def session_opens(session: object = None) -> None:
    """A session opens in this process: whoever stood by steps aside."""
    global _standing_by, _sessions, _newest
    _sessions += 1
    _newest = session
    step_aside, _standing_by = _standing_by, None
    if step_aside is not None:
        step_aside()
    from backprop_core.script_files.start import current

    if (files := current()) is not None:
        files.session_opens()


def newest_session() -> object:
    """The session that was opened last; None where there was none."""
    return _newest


def trains_beside(pid: int, more: str = "") -> None:
    """One line about a training in this process that is not saved, because process `pid` has, or had, the run's session."""
    print_line(
        f"process {os.getpid()} trains as well, but the session of this run is in process {pid}: what this one trains "
        f"is not saved.{more}"
    )


def cannot_be_saved(names: Sequence[str], kind: str) -> None:
    """One line about a training whose model nobody can look into: it is not saved, and begins anew on a resume."""
    package, _, short = kind.rpartition(".")
    again = (
        " There is nothing to resume from: it starts from scratch."
        if os.environ.get(contract.RESUME) == "1"
        else ""
    )
    named, package = ", ".join(f"`{name}`" for name in names), package.partition(".")[0]
    print_line(
        f"{named} ({package}'s {short}) cannot be kept: its library keeps it in its own memory, which backprop cannot "
        f"read. This training is governed from outside, and a resume starts from scratch.{again} If the script saves it "
        "itself: --checkpoint-glob 'out/*' --resume-flag FLAG."
    )


def give_up(framework: str, error: BaseException) -> None:
    """One line about what kept backprop from attaching itself; the script continues, governed from outside."""
    again = os.environ.get(contract.RESUME) == "1"
    how = "starts from scratch (its checkpoints are left as they are)" if again else "continues"
    print_line(
        f"could not attach to {framework}: {_in_words(error)} The script {how}, governed from outside."
    )
    _tell_proof(f"backprop could not attach to {framework}", error)


def stepped_aside(framework: str, error: BaseException, *, governed: bool) -> None:
    """One line about a fault of our own in the middle of a training, which goes on without us."""
    how = "governed from outside" if governed else "without a time box"
    print_line(
        f"stepped aside from {framework or 'this training'} after an internal error (report it): {_in_words(error)} "
        f"The training continues, {how}; nothing more is saved."
    )
    _tell_proof(f"backprop stepped aside from {framework or 'this training'}", error)


def continues_without(error: BaseException, *, governed: bool) -> None:
    """One line about a training that goes on without us because another process of it is gone."""
    how = "governed from outside" if governed else "without a time box"
    print_line(f"{error} The training continues here, {how}; nothing more is saved.")


def waits_no_longer(rank: int, error: BaseException) -> None:
    """One line about a process that leaves the box because it has waited for another one beyond the deadline."""
    print_line(f"process {rank}: {error} This process leaves the box.")


def _tell_proof(what: str, error: BaseException) -> None:
    """Let `backprop prove` know of a fault of our own; an error that is meant for users is none."""
    from backprop_core.errors import BackpropError

    if os.environ.get(contract.PROVE) and not isinstance(error, BackpropError):
        from backprop_core.session.proof import recorder_of

        if (recorder := recorder_of()) is not None:
            recorder.stepped_aside(f"{what}: {_in_words(error)}")


def _in_words(error: BaseException) -> str:
    what = " ".join(str(error).split())[:300] or "no message"
    return f"{type(error).__name__}: {what}{'' if what.endswith('.') else '.'}"
