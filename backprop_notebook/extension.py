"""`%load_ext backprop`: the magic `%%timebox`, and cells compiled so that the loops in their functions can be counted."""

from __future__ import annotations

import ast
import copy
import hashlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError as MagicUsageError

from backprop_core import contract
from backprop_core.clock import SYSTEM
from backprop_core.deadline.budget import parse_duration
from backprop_core.errors import BackpropError, RunNotFoundError, UsageError
from backprop_core.loop import counted_loops, rewritten_names
from backprop_core.loop.cell_training import CellOver, CellTraining
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.home import backprop_home
from backprop_core.runs.store import RunStore
from backprop_core.script_state.program import Program
from backprop_core.script_state.rewrite import Site, count_loops
from backprop_core.session.settings import CELL, Resume, SessionSettings, make_settings
from backprop_notebook.hosts import host_of
from backprop_notebook.progress_display import ProgressDisplay

USAGE = "%%timebox 20m [--run ID] [--name NAME] [--checkpoint-every 2m] [--fresh]"
_SHOW = "__backprop_show__"


@dataclass(frozen=True, slots=True)
class MagicLine:
    """What stands behind `%%timebox`.

    Attributes:
        fresh: train anew, whatever the run has saved.
    """

    budget: str | None = None
    run: str | None = None
    name: str | None = None
    checkpoint_every: str | None = None
    fresh: bool = False


def parse_line(line: str) -> MagicLine:
    """Read the line of the magic.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%%timebox {line!r} cannot be read: {error}.", USAGE) from error
    given: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        key = word.removeprefix("--").replace("-", "_")
        if word == "--fresh":
            given["fresh"] = True
        elif word in ("--run", "--name", "--checkpoint-every") and words:
            given[key] = words.pop(0)
        elif not word.startswith("-") and "budget" not in given:
            given["budget"] = word
        else:
            raise UsageError(f"%%timebox does not understand {word!r}.", USAGE)
    if "budget" in given:
        parse_duration(given["budget"])
    return MagicLine(**given)


class Cells:
    """The cells of one notebook, as far as they are compiled by us."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.program = Program()
        self._inside = False

    def visit(self, tree: ast.Module) -> ast.Module:
        """IPython hands every cell over: the loops in its functions can be counted later. Nothing of ours ends a cell."""
        if self._inside or not isinstance(tree, ast.Module):
            return tree
        try:
            counted, sites = self._counted(copy.deepcopy(tree), "cell")
        except Exception:
            return tree
        return counted if sites else tree

    def _counted(self, tree: ast.Module, filename: str) -> tuple[ast.Module, Sequence[Site]]:
        self.program.add(tree)
        counted, sites, asks = count_loops(tree, filename, "__main__", self.program)
        if sites or asks:
            loops = counted_loops.loops()
            training = loops.training
            rewritten_names.install(sites)
            loops.training, loops.dormant = training, False
        return ast.fix_missing_locations(counted), sites

    def timebox(self, line: str, cell: str) -> None:
        """Train in the cell for a time: `%%timebox 20m`. Run the cell again to go on where it stopped.

        Options: --run ID names the run (else the cell's own code does), --name NAME labels it, --checkpoint-every 2m saves
        so often, --fresh trains anew.
        """
        began = SYSTEM.monotonic()
        try:
            asked = parse_line(line)
            source = self.shell.transform_cell(cell)
            filename = self.shell.compile.cache(source, self.shell.execution_count)
            tree, _ = self._counted(self._shown(ast.parse(source, filename)), filename)
            self._run(compile(tree, filename, "exec", dont_inherit=True), _CellSettings(asked, cell, began))
        except BackpropError as error:
            raise MagicUsageError(str(error)) from None

    def _shown(self, tree: ast.Module) -> ast.Module:
        """The value of the last line is shown, as in every cell."""
        if tree.body and isinstance(last := tree.body[-1], ast.Expr):
            name = ast.Name(_SHOW, ast.Load())
            last.value = ast.copy_location(ast.Call(ast.copy_location(name, last), [last.value], []), last)
        return tree

    def _run(self, code: Any, settings: _CellSettings) -> None:
        import builtins

        loops, names = counted_loops.loops(), self.shell.user_ns
        display = ProgressDisplay(names, SYSTEM)
        training = CellTraining(loops, settings.of_session, display.look)
        setattr(builtins, _SHOW, self.shell.displayhook)
        loops.begin_anew(training)
        settings.say_first()
        try:
            exec(code, names)
            training.over(None)
        except CellOver:
            pass
        except BaseException as error:
            training.over(error)
            if not (isinstance(error, KeyboardInterrupt) and training.outcome is Outcome.STOPPED):
                raise
        finally:
            training.release()
            loops.begin_anew(None)
            if training.last_session is not None:
                _quietly(display, training)
        if training.refused is not None:
            raise training.refused
        _say_end(training)


def _quietly(display: ProgressDisplay, training: CellTraining) -> None:
    try:
        if training.last_session is not None:
            display.update(training.last_session)
    except Exception:  # a display is no reason to fail a cell
        return


def _say_end(training: CellTraining) -> None:
    if training.outcome is None:
        print("backprop: no training was found in this cell, so nothing was limited or saved.")
    elif training.outcome in (Outcome.TIMEBOXED, Outcome.PREEMPTED, Outcome.STOPPED):
        print("backprop: the training in this cell is not complete. Run the cell again to continue.")


@dataclass(slots=True)
class _CellSettings:
    """Makes the settings of a cell's session when it opens."""

    asked: MagicLine
    source: str
    began: float

    @property
    def run_id(self) -> str:
        """The run of the cell: the one that was named, or one for this code in this notebook and folder."""
        if self.asked.run is not None:
            return self.asked.run
        notebook = os.environ.get("JPY_SESSION_NAME", "")
        told = "\n".join((str(Path.cwd()), notebook, self.source.strip()))
        return f"cell-{hashlib.sha256(told.encode()).hexdigest()[:10]}"

    def say_first(self) -> None:
        """What a service's user should know."""
        host = host_of(os.environ, SYSTEM)
        for sentence in () if host is None else host.advice:
            print(f"backprop: {sentence}")

    def of_session(self, label: str) -> SessionSettings:
        asked, environ = self.asked, dict(os.environ)
        host = host_of(environ, SYSTEM)
        if host is not None and host.ends_wall is not None:
            environ[contract.DEADLINE] = repr(host.ends_wall)
        budget = None
        if asked.budget is not None:
            budget_s = parse_duration(asked.budget)
            budget = round(max(0.1, budget_s - (SYSTEM.monotonic() - self.began)), 1)
        return make_settings(
            budget=budget,
            run=self.run_id,
            name=asked.name,
            checkpoint_every=asked.checkpoint_every,
            resume=self._resume(),
            origin=CELL,
            framework=label,
            environ=environ,
        )

    def _resume(self) -> Resume:
        """A cell that had completed trains anew when it is run again, and that is said."""
        if self.asked.fresh:
            return False
        try:
            record = RunStore(backprop_home(os.environ), SYSTEM).load(self.run_id)
        except (RunNotFoundError, FileNotFoundError):
            return "auto"
        if record.status is Outcome.COMPLETED:
            print(f"backprop: this cell had completed (run {record.id}). It trains from scratch.")
            return False
        return "auto"


def load(shell: Any) -> None:
    """Register the magic, once."""
    if getattr(shell, "_backprop_cells", None) is not None:
        return
    cells = Cells(shell)
    shell._backprop_cells = cells
    shell.ast_transformers.append(cells)
    shell.register_magic_function(cells.timebox, magic_kind="cell", magic_name="timebox")


__all__ = ["Cells", "MagicLine", "load", "parse_line"]
