"""Values in functions and in objects of the standard library, which no attribute shows."""

from __future__ import annotations

import io
import queue
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from backprop_core.testing.state_contract import copy_kinds

STEPS = 3


@pytest.fixture
def scripts_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tells the kinds anew each time it is called, as the modules of a script in a new process do."""
    copy_kinds(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "state_kinds"]:
            del sys.modules[name]

    def fresh() -> ModuleType:
        forget()
        import importlib

        return importlib.import_module("state_kinds.standard")

    yield fresh
    forget()


class Process:
    """One of the script's processes, with one object that holds every kind."""

    def __init__(self, module: Any) -> None:
        self.module, self.kinds = module, {**module.STANDARD, **module.OF_GLOBALS}
        self.held = SimpleNamespace(**{name: kind.make() for name, kind in self.kinds.items()})
        self.state = ScriptState([("held", self.held), DictNamespace(vars(module), "module")])
        self.state.baseline()

    def step(self) -> None:
        for name, kind in self.kinds.items():
            setattr(self.held, name, kind.change(getattr(self.held, name)))

    def shown(self) -> dict[str, str]:
        return {name: repr(kind.look(getattr(self.held, name))) for name, kind in self.kinds.items()}


def test_each_is_the_same_or_named(scripts_kinds: Any) -> None:
    """What a new process shows, at once and a step later; what differs was named, and nothing else was."""
    first = Process(scripts_kinds())
    for _ in range(STEPS):
        first.step()
    saved, now = first.state.changed(), first.shown()
    named = {one.name.split(".")[1].partition("[")[0] for one in first.state.unkept()}
    first.step()
    second = Process(scripts_kinds())
    restored = second.state.restore(saved)
    assert not restored.missing
    unkept = second.module.NAMED
    assert {name for name, one in second.shown().items() if one != now[name]} <= unkept
    second.step()
    then = first.shown()
    assert {name for name, one in second.shown().items() if one != then[name]} <= unkept
    assert named == unkept


def test_nothing_is_stored_of_what_has_not_changed(scripts_kinds: Any) -> None:
    """To look at them changes none of them. Generators are always stored."""
    process = Process(scripts_kinds())
    before = process.shown()
    nodes = process.state.changed()["nodes"]
    assert {node["kind"] for node in nodes} == {"random"}
    assert not process.state.unkept()
    assert process.shown() == before


def test_a_queue_that_a_thread_fills_is_the_attempts_own() -> None:
    """What it holds comes again from the thread of the new process; without the thread it is the script's."""
    work: queue.Queue[int] = queue.Queue(2)
    state = ScriptState([("work", work)])
    state.baseline()
    work.put(1)
    assert [node["name"] for node in state.changed()["nodes"]] == ["work", "work.queue"]
    release = threading.Event()

    def fill() -> None:
        work.put(2)
        release.wait()

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        assert state.changed()["nodes"] == []
    finally:
        release.set()
        thread.join()


def _promising(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def test_the_result_of_a_future_comes_back() -> None:
    """In one that is there, in one that takes its place, in one that did not exist before: each is complete again."""
    here = SimpleNamespace(same=_promising([1]), other=_promising([1]), late=None)
    state = ScriptState([("held", here)])
    state.baseline()
    here.same.result().append(2)
    here.other, here.late = _promising(np.arange(3)), _promising("text")
    saved = state.changed()
    assert state.unkept() == []
    there = SimpleNamespace(same=_promising([1]), other=_promising([1]), late=None)
    again = ScriptState([("held", there)])
    again.baseline()
    assert again.restore(saved).missing == []
    assert there.same.result(timeout=0) == [1, 2]
    assert there.other.result(timeout=0).tolist() == [0, 1, 2]
    assert there.late.result(timeout=0) == "text"


class Counting(threading.Thread):
    """A thread of the script's with a number of its own."""

    def __init__(self, until: threading.Event) -> None:
        super().__init__(daemon=True)
        self.until, self.count = until, 0
        self.start()

    def run(self) -> None:
        self.until.wait()


def test_a_thread_that_ended_does_not_end_the_one_that_runs() -> None:
    """What the script has given it comes back; that it is over is a fact of the earlier process."""
    over, goes_on = threading.Event(), threading.Event()
    here = SimpleNamespace(thread=Counting(over))
    state = ScriptState([("held", here)])
    state.baseline()
    here.thread.count = 3
    over.set()
    here.thread.join()
    saved = state.changed()
    there = SimpleNamespace(thread=Counting(goes_on))
    again = ScriptState([("held", there)])
    again.baseline()
    assert again.restore(saved).missing == []
    assert there.thread.count == 3
    assert there.thread.is_alive()
    goes_on.set()


def test_text_that_is_new_is_made_anew() -> None:
    """A buffer that did not exist at the first boundary."""
    first, second = SimpleNamespace(log=None), SimpleNamespace(log=None)
    states = [ScriptState([("held", one)]) for one in (first, second)]
    for state in states:
        state.baseline()
    first.log = io.StringIO()
    first.log.write("ab")
    assert not states[1].restore(states[0].changed()).missing
    assert (second.log.getvalue(), second.log.tell()) == ("ab", 2)


def test_a_buffer_that_was_closed_is_left_alone() -> None:
    """In either process."""
    first, second = io.BytesIO(b"a"), io.BytesIO(b"a")
    states = [ScriptState([("some", one)]) for one in (first, second)]
    for state in states:
        state.baseline()
    first.close()
    assert not states[1].restore(states[0].changed()).missing
    assert second.getvalue() == b"a"


def test_a_table_whose_cells_change_is_named() -> None:
    """pandas keeps them where no attribute leads."""
    frame_class = type("DataFrame", (), {"__module__": "pandas"})
    table = frame_class()
    table._mgr = SimpleNamespace(blocks=(SimpleNamespace(values=np.zeros((2, 3))),))
    state = ScriptState([("table", table)])
    state.baseline()
    state.changed()
    assert not state.unkept()
    table._mgr.blocks[0].values[1, 1] = 7
    state.changed()
    assert [one.name for one in state.unkept()] == ["table"]


def test_a_loader_that_keeps_its_place_itself_is_named() -> None:
    """To give it a state moves its next pass, which the loop moves, too: six of 21 batches were left out."""

    def state_dict(self: Any) -> dict[str, int]:
        return {"given": self.given}

    methods = {"__module__": "torchdata.nodes.loader", "state_dict": state_dict, "load_state_dict": None}
    loader = type("Loader", (), methods)()
    loader.given = 0
    state = ScriptState([("loader", loader)])
    state.baseline()
    state.changed()
    assert not state.unkept()
    loader.given = 3
    assert not state.changed()["nodes"]
    assert [one.name for one in state.unkept()] == ["loader"]


def test_what_a_communication_hook_remembers_is_named() -> None:
    """PowerSGD's errors belong to the buckets of one process; how often models were averaged belongs to the run."""
    from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState
    from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

    from backprop_torch.framework import TorchFramework

    torch = TorchFramework()
    hook, averager = PowerSGDState(process_group=None), PeriodicModelAverager.__new__(PeriodicModelAverager)
    averager.step = 0
    state = ScriptState(
        [("hook", hook), ("averager", averager)], frameworks=[torch], tracked_elsewhere=torch.stored_with({})
    )
    state.baseline()
    hook.iter, averager.step = 1, 1
    names = [node["name"] for node in state.changed()["nodes"]]
    assert "averager" in names
    assert "hook" not in names
    assert [one.name for one in state.unkept()] == ["hook"]


def test_what_a_compiler_notes_among_globals_is_no_state() -> None:
    """`torch.compile` puts names into a module's globals; put back by us, the next compilation ended in an assertion."""
    import torch

    names: dict[str, Any] = {"torch": torch}
    code = """
def broken(x):
    y = torch.tanh(x)
    print(end="")  # the graph ends here
    for layer in [torch.sin, torch.cos]:
        y = layer(y)
    return y + len([one for one in (1, 2)])
"""
    exec(code, names)
    before = {name for name, _ in DictNamespace(names, "main").items()}
    compiled = torch.compile(names["broken"], backend="eager")
    compiled(torch.ones(2))
    assert len(names) > len(before) + 1, "nothing was noted: this proves nothing"
    assert {name for name, _ in DictNamespace(names, "main").items()} == before
