"""Cuts a script at every boundary of its loops, and again soon after: every_boundary.py SCRIPT SHAPE FOLDER EVERY.

Each attempt is a fork of this process, which has imported torch and has run nothing of the script; so a cut and its resume
cost a tenth of two starts. What differs from the uncut script is printed, one line a cut; nothing where all is the same.
"""

from __future__ import annotations

import atexit
import gc
import os
import random
import shutil
import sys
import types
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import torch._dynamo

from backprop_core.clock import SYSTEM
from backprop_core.loop import iteration_starts
from backprop_core.loop.counted_loops import loops
from backprop_core.loop.running_loop import RunningLoop
from backprop_core.loop.script_training import ScriptTraining
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.store import RunStore
from backprop_startup.local_code import LocalCode
from backprop_startup.main_script import _MainFile
from backprop_torch.attach import attach
from backprop_torch.framework import TorchFramework
from backprop_torch.loader_passes import watch_from_the_start

SCRIPT, SHAPE, FOLDER, EVERY = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])


_AGAIN = 4
"""The second attempt is cut at this boundary of its own."""


class RefusedError(Exception):
    """The checkpoint is not resumed from; a sentence says why."""


class _Always:
    """An alarm that rings at each boundary."""

    wake = float("-inf")


def fork(place: Path, attempt: int, cut: int = 0) -> None:
    """One attempt at the script in `place`: 0 without us, else under a session, which leaves at boundary `cut`.

    Raises:
        RefusedError: it ends with one sentence.
    """
    pid = os.fork()
    if pid == 0:
        _in_the_fork(place, attempt, cut)
    _, status = os.waitpid(pid, 0)
    said = (place / "err").read_text()
    if os.waitstatus_to_exitcode(status) == 1 and "does not fit this script" in said:
        raise RefusedError(said.splitlines()[-1])
    assert os.waitstatus_to_exitcode(status) == 0, said


def _in_the_fork(place: Path, attempt: int, cut: int) -> NoReturn:
    (place / "work").mkdir(parents=True, exist_ok=True)
    os.chdir(place / "work")
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [str(SCRIPT), SHAPE]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    status = 0
    try:
        if attempt:
            _join(place, attempt)
            _cut_at(cut, place)
            attach()
            watch_from_the_start(TorchFramework().reading)
            _MainFile(str(SCRIPT), LocalCode(str(SCRIPT))).run(vars(main))
        else:
            exec(compile(SCRIPT.read_bytes(), str(SCRIPT), "exec", dont_inherit=True), vars(main))
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _join(place: Path, attempt: int) -> None:
    store = RunStore(place / "home", SYSTEM)
    if attempt == 1:
        store.create(run_id="cut", name=None, command=["x"], cwd=place, interpreter="python", options={})
    hold = store.hold("cut").__enter__()
    store.begin_attempt(
        hold,
        process=ProcessIdentity.of(os.getpid()),
        budget_s=600.0,
        budget_source="test",
        resumed_from=None,
    ).events.close()
    os.environ |= {
        "BACKPROP_HOME": str(place / "home"), "BACKPROP_RUN_ID": "cut", "BACKPROP_RUN_DIR": str(hold.run_dir),
        "BACKPROP_ATTEMPT": str(attempt), "BACKPROP_FRAMEWORK": "auto", "BACKPROP_BUDGET_S": "600",
    }  # fmt: skip
    if attempt > 1:
        newest = sorted((hold.run_dir / "checkpoints").glob("step-*"))[-1]
        os.environ |= {"BACKPROP_RESUME": "1", "BACKPROP_RESUME_FROM": str(newest)}
    loops()._owner = os.getpid()


def _cut_at(cut: int, place: Path) -> None:
    """Have every boundary told, and the session leave at this one; how many there were is written down."""
    set_up, at_boundary, count = ScriptTraining._set_up, ScriptTraining._at_boundary, [0]
    iteration_starts._SHARE = float("inf")

    def awake(self: ScriptTraining, *arguments: object) -> None:
        set_up(self, *arguments)  # type: ignore[arg-type]
        self.alarm = _Always()

    def counted(self: ScriptTraining, loop: RunningLoop, frame: types.FrameType) -> None:
        at_boundary(self, loop, frame)
        going_on = self.session is not None and not self.loops.going_back
        state = self.loop_state
        if going_on and state is not None and state.can_be_found_again() and state.may_be_left(loop):
            count[0] += 1
            (place / "boundaries").write_text(str(count[0]))
            if count[0] == cut and self.session is not None:
                self.session.leave_at_once("cut")
                self._leave()

    ScriptTraining._set_up = awake  # type: ignore[method-assign,assignment]
    ScriptTraining._at_boundary = counted  # type: ignore[method-assign]


def left(place: Path) -> tuple[list[str], dict[str, bytes]]:
    """The lines that the script has printed, and the files that it has written."""
    files = {path.name: path.read_bytes() for path in (place / "work").iterdir()}
    return (place / "out").read_text().splitlines(), files


def difference(uncut: tuple[list[str], dict[str, bytes]], cut: tuple[list[str], dict[str, bytes]]) -> str:
    """What is not as uncut. Code between loops runs again, so lines may come twice, but no line may be another."""
    rest = list(uncut[0])
    for line in cut[0]:
        if rest and rest[0] == line:
            del rest[0]
        elif line not in uncut[0]:
            return f"printed {line!r}, and not {rest[:1]}"
    if rest:
        return f"did not print {rest[0]!r}"
    return ", ".join(name for name in uncut[1] if uncut[1][name] != cut[1].get(name))


def main() -> None:
    """Uncut, then under a session that is never cut, then cut at one boundary after the other."""
    fork(FOLDER / "uncut", 0)
    uncut = left(FOLDER / "uncut")
    fork(FOLDER / "whole", 1)
    assert left(FOLDER / "whole") == uncut
    boundaries = int((FOLDER / "whole" / "boundaries").read_text())
    for cut in range(1, boundaries + 1, EVERY):
        place = FOLDER / str(cut)
        fork(place, 1, cut)
        (place / "boundaries").write_text("0")
        try:
            fork(place, 2, _AGAIN)
            if int((place / "boundaries").read_text()) == _AGAIN:
                fork(place, 3)
        except RefusedError as error:
            print(f"cut at {cut} of {boundaries}: refused: {error}")
            continue
        if found := difference(uncut, left(place)):
            print(f"cut at {cut} of {boundaries}: {found}")
        if "Not restored" in (said := (place / "err").read_text()) or "cannot be kept" in said:
            print(f"cut at {cut} of {boundaries}: {said}")
        shutil.rmtree(place)


if __name__ == "__main__":
    torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])  # what the first one imports is there for all forks
    gc.freeze()  # half a million objects of torch's, none of the script's: no fork goes through them
    main()
