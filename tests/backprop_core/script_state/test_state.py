"""What is found, what is named, what is left alone, and that nothing of the script's runs."""

from __future__ import annotations

import enum
import importlib
import random
import sys
import threading
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from backprop_core.errors import StateMismatchError
from backprop_core.loop.script_watch import ModulesBeside, script_namespaces
from backprop_core.script_state.namespace import DictNamespace, FrameNamespace, InstanceNamespace
from backprop_core.script_state.state import Restored, ScriptState, names_in
from tests.backprop_core.script_state.graphs import through_a_file


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Record:
    best: float = 0.0
    seen: list[int] = field(default_factory=list)


class Player:
    """Neither a data class nor a framework's: what else its `__init__` does nobody knows."""

    def __init__(self) -> None:
        self.points = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    made: ClassVar[int] = 0
    number: int
    record: Any

    def __post_init__(self) -> None:
        Frozen.made += 1


class Hostile:
    """Whoever asks it anything but its stored attributes fails."""

    def __init__(self) -> None:
        object.__getattribute__(self, "__dict__")["count"] = 0

    @property
    def computed(self) -> Any:
        raise AssertionError("a property was read")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"__getattr__({name!r}) was called")

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"__getattribute__({name!r}) was called")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("== was called")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise AssertionError("its truth was asked for")


def _names() -> dict[str, Any]:
    return {
        "count": 0,
        "when": None,
        "where": Path("a"),
        "colour": Colour.RED,
        "record": Record(),
        "queue": deque([1], maxlen=3),
        "words": Counter("aab"),
        "groups": defaultdict(list),
        "table": np.zeros(5),
        "random": random.Random(1),
        "hostile": Hostile(),
        "hostiles": [Hostile(), Hostile()],
        "lock": threading.Lock(),
        "log": sys.stdout,
        "argument": "--epochs 10",
    }


def _state(names: dict[str, Any]) -> ScriptState:
    state = ScriptState([DictNamespace(names, "main")])
    state.baseline()
    return state


def _resumed(saved: Any, names: dict[str, Any] | None = None) -> tuple[dict[str, Any], Restored]:
    names = _names() if names is None else names
    return names, _state(names).restore(through_a_file(saved))


def test_kinds_come_back_and_arguments_stay_those_of_the_new_process() -> None:
    """Everything that changed comes back in place; an argument that the new process set otherwise stays so."""
    names = _names()
    state = _state(names)
    names["count"] = 47
    names["when"] = 2.5
    names["where"] = Path("b")
    names["colour"] = Colour.BLUE
    names["record"].best, names["record"].seen = 0.9, [1, 2]
    names["queue"].append(9)
    names["words"].update("bbb")
    names["groups"]["x"].append(1)
    names["table"][2] = 7.0
    drawn = [names["random"].random() for _ in range(3)]
    object.__getattribute__(names["hostile"], "__dict__")["count"] = 5
    saved = state.changed()
    assert not state.unkept()
    assert "main.record.best" in names_in(saved)
    assert "main.argument" not in names_in(saved)

    fresh = _names()
    fresh["argument"] = "--epochs 20"
    record = fresh["record"]
    back, restored = _resumed(saved, fresh)
    assert not restored.missing
    assert back["argument"] == "--epochs 20"
    assert back["record"] is record
    assert (record.best, record.seen) == (0.9, [1, 2])
    assert (back["count"], back["when"], back["where"]) == (47, 2.5, Path("b"))
    assert back["colour"] is Colour.BLUE
    assert list(back["queue"]) == [1, 9]
    assert back["words"] == Counter("aabbbb")
    assert dict(back["groups"]) == {"x": [1]}
    assert back["table"].tolist() == [0, 0, 7, 0, 0]
    assert back["random"].getstate() == names["random"].getstate()
    assert len(drawn) == 3
    assert object.__getattribute__(back["hostile"], "__dict__") == {"count": 5}


def test_attributes_that_appear_and_vanish() -> None:
    """An attribute that was set or deleted during training is there, or not, in the new process."""

    class Net:
        def __init__(self) -> None:
            self.warm = True

    first, second = Net(), Net()
    state = ScriptState([("net", first)])
    state.baseline()
    del first.warm
    first.outputs = [1.0]  # type: ignore[attr-defined]
    saved = through_a_file(state.changed())
    assert sorted(names_in(saved)) == ["net.outputs", "net.outputs", "net.warm (deleted)"]
    other = ScriptState([("net", second)])
    other.baseline()
    other.restore(saved)
    assert vars(second) == {"outputs": [1.0]}


@pytest.mark.parametrize(
    "module",
    ["aim.sdk.run", "clearml.task", "comet_ml.experiment", "mlflow", "neptune.run", "wandb.sdk.wandb_run"],
)
def test_the_run_of_a_tracker_belongs_to_its_process(module: str) -> None:
    """What a tracker's own objects count is neither stored nor complained of: a resumed box has its own."""
    run = type("Run", (), {"__module__": module})()
    run.sent = 0
    names: dict[str, Any] = {"run": run, "steps": 0}
    state = _state(names)
    run.sent, run.queue, names["steps"] = 5, object(), 5
    assert names_in(state.changed()) == ["main.steps"]
    assert not state.unkept()


def test_an_object_of_the_scripts_that_is_new_is_named() -> None:
    """A list of the script's own instances that grew cannot come back: name, type, why, what to do."""
    names: dict[str, Any] = {"players": [Player()]}
    state = _state(names)
    names["players"].append(Player())
    saved = state.changed()
    assert [(one.name, one.type.rpartition(".")[2]) for one in state.unkept()] == [
        ("main.players[...]", "Player")
    ]
    assert "box.track" in str(state.unkept()[0])
    back, restored = _resumed(saved, {"players": [Player()]})
    assert [one.name for one in restored.missing] == ["main.players"]
    assert len(back["players"]) == 1


def test_a_new_data_class_is_its_values() -> None:
    """Data classes that were made during training come back, frozen ones with slots too, without running their code."""
    names: dict[str, Any] = {"history": [], "best": None}
    state = _state(names)
    for number in range(3):
        names["history"].append(Frozen(number, Record(best=number / 2, seen=[number])))
    names["best"] = names["history"][1]
    made = Frozen.made
    saved = through_a_file(state.changed())
    assert not state.unkept()
    back, restored = _resumed(saved, {"history": [], "best": None})
    assert not restored.missing
    assert [(one.number, one.record) for one in back["history"]] == [
        (number, Record(best=number / 2, seen=[number])) for number in range(3)
    ]
    assert back["best"] is back["history"][1]
    assert Frozen.made == made


def test_a_new_data_class_with_a_handle_is_named() -> None:
    """A file in a data class belongs to the process that opened it, so the object cannot be made in another."""
    names: dict[str, Any] = {"history": []}
    state = _state(names)
    with Path(__file__).open(encoding="utf-8") as file:
        names["history"].append(Frozen(1, file))
        state.changed()
    assert [one.name for one in state.unkept()] == ["main.history[...]"]


def test_an_array_in_a_file_comes_back_in_place(tmp_path: Path) -> None:
    """A numpy memmap that the script writes to: its elements are those of the checkpoint, and they are in its file."""
    names: dict[str, Any] = {"table": np.memmap(tmp_path / "a", "float32", "w+", shape=(2, 3))}
    state = _state(names)
    names["table"][1] += 2.5
    saved = through_a_file(state.changed())
    assert not state.unkept()
    back, restored = _resumed(saved, {"table": np.memmap(tmp_path / "b", "float32", "w+", shape=(2, 3))})
    assert not restored.missing
    assert type(back["table"]) is np.memmap
    back["table"].flush()
    assert np.fromfile(tmp_path / "b", "float32").tolist() == [0.0] * 3 + [2.5] * 3


def test_an_array_in_a_file_that_is_only_read_is_not_read_to_compare_it(tmp_path: Path) -> None:
    """A data set of any size that is mapped read-only costs nothing, and is not stored."""
    with (tmp_path / "data").open("wb") as file:
        file.truncate(1 << 40)
    names: dict[str, Any] = {"data": np.memmap(tmp_path / "data", "uint8", "r")}
    state = _state(names)
    assert not [node for node in state.changed()["nodes"] if node["kind"] == "array"]


def test_nothing_is_restored_from_a_state_that_cannot_be_read() -> None:
    """A malformed state is an error, and every object is as it was."""
    names = _names()
    with pytest.raises(StateMismatchError):
        _state(names).restore({"format": 1, "nodes": [{"name": "main"}], "paths": {}})
    assert names["count"] == 0


def test_an_array_of_another_shape_is_left_alone_and_named() -> None:
    """An array that was written in place and is larger in the new process is not restored."""
    names: dict[str, Any] = {"table": np.zeros(3)}
    state = _state(names)
    names["table"] += 1
    back, restored = _resumed(state.changed(), {"table": np.zeros(4)})
    assert [one.name for one in restored.missing] == ["main.table"]
    assert back["table"].tolist() == [0.0] * 4


def test_a_rebound_array_does_not_overwrite_what_shares_its_memory() -> None:
    """The script made a new array in place of a view: in the new process the memory behind the view stays as it is."""

    def begin() -> dict[str, Any]:
        weights = np.zeros(3)
        return {"weights": weights, "average": weights[:]}

    names = begin()
    state = _state(names)
    names["average"] = names["average"] * 0.9 + 1.0
    back, _ = _resumed(state.changed(), begin())
    assert back["average"].tolist() == [1.0] * 3
    assert back["weights"].tolist() == [0.0] * 3


def _frame_state(saved: Any) -> tuple[Any, ...]:
    """A function whose locals are changed or restored from a call inside it."""
    count, best, history = 0, None, []
    late: int

    def bump() -> int:
        nonlocal count
        count += 1
        return count

    def act(frame: Any) -> Any:
        state = ScriptState([FrameNamespace(frame, "train()")])
        state.baseline()
        if saved is not None:
            return state.restore(saved)
        return state

    state = act(sys._getframe())
    if saved is None:
        bump()
        best, late = 0.5, 3
        history.append(best)
        return (state.changed(), state)
    return (count, best, history, late, bump())  # type: ignore[possibly-undefined]


def test_locals_of_a_running_function_come_back() -> None:
    """Locals, a variable that was not set yet, and one that an inner function shares."""
    saved, state = _frame_state(None)
    assert not state.unkept()
    assert _frame_state(through_a_file(saved)) == (1, 0.5, [0.5], 3, 2)


def test_attributes_of_an_instance_as_a_namespace() -> None:
    """The root itself may be the attributes of one object."""
    first, second = Record(), Record()
    state = ScriptState([InstanceNamespace(first, "trainer")])
    state.baseline()
    first.best = 3.0
    other = ScriptState([InstanceNamespace(second, "trainer")])
    other.baseline()
    other.restore(through_a_file(state.changed()))
    assert second.best == 3.0


def test_a_difference_between_two_moments() -> None:
    """What a finished loop changed is told by a baseline of its own."""
    names: dict[str, Any] = {"a": 1, "b": 1}
    state = _state(names)
    names["a"] = 2
    before = state.baseline()
    names["b"] = 2
    assert names_in(state.changed(since=before)) == ["main.b"]
    assert names_in(state.changed()) == ["main.a", "main.b"]


def test_what_was_restored_stays_in_the_next_checkpoint() -> None:
    """Even where it looks like the baseline of the new process, which may have got there in another way."""
    names: dict[str, Any] = {"count": 0}
    state = _state(names)
    names["count"] = 3
    saved = through_a_file(state.changed())
    fresh = {"count": 3}
    other = _state(fresh)
    other.restore(saved)
    assert names_in(other.changed()) == ["main.count"]


def test_a_closure_of_the_scripts_keeps_its_variables() -> None:
    """A counter that lives in the function around a function."""

    def make() -> Any:
        seen = 0

        def count() -> int:
            nonlocal seen
            seen += 1
            return seen

        return count

    names = {"count": make()}
    state = _state(names)
    names["count"]()
    names["count"]()
    back, restored = _resumed(state.changed(), {"count": make()})
    assert not restored.missing
    assert back["count"]() == 3


def test_a_function_that_is_made_in_each_step_belongs_to_the_process() -> None:
    """It is no state: nothing is named, and the new process keeps its own."""

    def make(number: int) -> Any:
        return lambda: number

    names: dict[str, Any] = {"closure": make(1), "count": 0}
    state = _state(names)
    names["closure"], names["count"] = make(2), 1
    saved = state.changed()
    assert not state.unkept()
    back, restored = _resumed(saved, {"closure": None, "count": 0})
    assert not restored.missing
    assert back == {"closure": None, "count": 1}


def test_a_million_numbers_are_compared_and_stored_quickly() -> None:
    """A long list of numbers is stored as an array, exactly; a short loop over it would take minutes of JSON."""
    names: dict[str, Any] = {"losses": [0.5] * 1_000_000}
    state = _state(names)
    names["losses"].append(float("inf"))
    saved = state.changed()
    node = next(node for node in saved["nodes"] if node["name"] == "main.losses")
    assert node["data"]["items"]["numbers"].nbytes == 8 * 1_000_001
    back, _ = _resumed(saved, {"losses": [0.5] * 1_000_000})
    assert back["losses"][-1] == float("inf")
    assert type(back["losses"][0]) is float


def test_large_collections_of_objects_are_not_looked_into_while_they_hold_the_same() -> None:
    """Ten thousand small lists cost one glance; once one is exchanged they are stored."""
    names: dict[str, Any] = {"samples": [[n] for n in range(10_000)]}
    state = _state(names)
    assert state.changed()["nodes"] == []
    names["samples"][3] = [-1]
    back, restored = _resumed(state.changed(), {"samples": [[n] for n in range(10_000)]})
    assert not restored.missing
    assert back["samples"][3] == [-1]
    assert back["samples"][4] == [4]


def test_a_tensor_without_a_shape_ends_no_training() -> None:
    """A nested tensor among the script's variables, which refuses to tell its shape, is looked at and left alone."""
    import torch

    from backprop_core.ports.framework import frameworks_in_use

    names = {"odd": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "count": 0}
    state = ScriptState([DictNamespace(names, "main")], frameworks=frameworks_in_use())
    state.baseline()
    names["count"] = 1
    assert [node["name"] for node in state.changed()["nodes"]] == ["main"]


def test_a_test_runner_around_the_training_is_not_looked_into(request: pytest.FixtureRequest) -> None:
    """What a training's test holds of pytest leads to the whole session of tests; none of it is the script's state."""
    names = {"request": request, "seen": [1]}
    state = ScriptState([DictNamespace(names, "main")])
    assert set(state.baseline().known) == {"main", "main.seen"}


class _Native:
    """Stands for an object whose content lies outside of Python."""

    def __init__(self) -> None:
        self.handle = 1


def test_an_object_that_the_running_loop_makes_is_named_at_once() -> None:
    """One that a new process makes, too, is left to it; one that it does not have when it is restored is named."""
    names: dict[str, object] = {"booster": None, "reader": None}
    lately: set[int] = set()
    state = ScriptState(
        [DictNamespace(names, "main")], made_again=True, made_lately=lambda value, holder: id(value) in lately
    )
    state.baseline()
    names["reader"] = _Native()
    state.changed()
    assert not state.unkept()
    names["booster"] = _Native()
    lately.add(id(names["booster"]))
    state.changed()
    assert [one.name for one in state.unkept()] == ["main.booster"]


def test_objects_that_changed_places_keep_their_state() -> None:
    """A sorted list is put back twice, as for an iteration and a boundary in it: each object has its own state."""
    names: dict[str, Any] = {"players": [Player() for _ in range(3)]}
    state = _state(names)
    for number, player in enumerate(names["players"]):
        player.points = number
    names["players"].reverse()
    at_entry = through_a_file(state.changed())
    names["players"][0].points = 7
    at_boundary = through_a_file(state.changed())
    fresh = [Player() for _ in range(3)]
    back = {"players": list(fresh)}
    other = ScriptState([DictNamespace(back, "main")])
    other.baseline(hold=True)
    other.restore(at_entry)
    other.restore(at_boundary)
    assert [player.points for player in back["players"]] == [7, 1, 0]
    assert [fresh.index(player) for player in back["players"]] == [2, 1, 0]


def test_the_call_of_the_main_script_is_none_of_its_frames() -> None:
    """`backprop run` calls the script from code that is named as Python names itself; its variables are ours."""
    found: list[str] = []
    script = compile("found.extend(one.name for one in look())", "train.py", "exec")
    names = {"__name__": "__main__", "found": found, "look": lambda: script_namespaces(sys._getframe(1))}
    exec(compile("exec(code, names)", "sys", "exec"), {"__name__": "ours", "code": script, "names": names})
    assert "main" in found
    assert "ours" not in found


def test_a_package_below_the_working_directory_is_the_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python scripts/train.py` with a package that lies beside the folder of the script."""
    (tmp_path / "counts_of_mine.py").write_text("steps = 0")
    (tmp_path / "scripts").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("counts_of_mine")
    monkeypatch.setitem(sys.modules, "counts_of_mine", module)
    assert ModulesBeside(str(tmp_path / "scripts/train.py")).look() == [module]
    monkeypatch.chdir("/")
    assert not ModulesBeside(str(tmp_path / "scripts/train.py")).look()


@pytest.mark.parametrize("made", [lambda items: deque(items, maxlen=8), list])
def test_a_list_that_shifts_between_two_differences_comes_back(made: Any) -> None:
    """Lists in the tuples of a buffer are found by what they are: the first difference has put others where paths lead."""

    def shift(names: dict[str, Any], numbers: range) -> None:
        for number in numbers:
            names["buffer"].append((number, [number]))
            if type(names["buffer"]) is list:
                names["buffer"].pop(0)
            names["buffer"][0][1].append(-number)

    def fresh() -> dict[str, Any]:
        return {"buffer": made((number, [number]) for number in range(8))}

    names = fresh()
    state = _state(names)
    shift(names, range(8, 11))
    earlier = through_a_file(state.changed())
    shift(names, range(11, 13))
    later = through_a_file(state.changed())

    back = fresh()
    resumed = ScriptState([DictNamespace(back, "main")])
    resumed.baseline(hold=True)
    assert not resumed.restore(earlier).missing
    assert not resumed.restore(later).missing
    assert list(back["buffer"]) == list(names["buffer"])


@pytest.mark.parametrize("made", [lambda items: deque(items, maxlen=8), list])
def test_a_list_that_the_script_has_shifted_itself_comes_back(made: Any) -> None:
    """A step that runs before the difference is put back leaves another list where a path leads: it is not written to."""

    def step(names: dict[str, Any], number: int) -> None:
        names["buffer"].append((number, [number]))
        if type(names["buffer"]) is list:
            names["buffer"].pop(0)

    def fresh() -> dict[str, Any]:
        return {"buffer": made((number, [number]) for number in range(8))}

    names, back = fresh(), fresh()
    state, resumed = _state(names), ScriptState([DictNamespace(back, "main")])
    for number in range(8, 12):
        step(names, number)
    saved = through_a_file(state.changed())

    resumed.baseline(hold=True)
    step(back, 8)
    assert not resumed.restore(saved).missing
    assert list(back["buffer"]) == list(names["buffer"])


def test_classes_that_a_function_makes_come_back() -> None:
    """No name leads to them, and two calls make two of one name: each is found where it is used."""

    def made() -> type:
        class Counting:
            seen = 0

        return Counting

    def fresh() -> dict[str, Any]:
        return {"instance": made()(), "kind": made(), "derived": type("Derived", (made(),), {})()}

    names, back = fresh(), fresh()
    state, resumed = _state(names), _state(back)
    type(names["instance"]).seen, names["kind"].seen, type(names["derived"]).__mro__[1].seen = 1, 2, 3
    assert not resumed.restore(through_a_file(state.changed())).missing
    assert (type(back["instance"]).seen, back["kind"].seen) == (1, 2)
    assert type(back["derived"]).__mro__[1].seen == 3
