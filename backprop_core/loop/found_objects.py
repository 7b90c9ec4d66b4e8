"""The objects of a rewritten script that train: found while it runs, and kept as long as the script keeps them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

from backprop_core.loop.loop_state import LoopState
from backprop_core.loop.made_in_loops import MadeInLoops
from backprop_core.ports.trained_objects import TrainedObjects
from backprop_core.script_state.state import ScriptState
from backprop_core.script_state.unkept import Unkept, part_of_a_graph


class FoundObjects:
    """Tracks in `loop_state` what trains.

    Attributes:
        trained: what frameworks know of the objects that train.
    """

    def __init__(self, loop_state: LoopState) -> None:
        self.trained: list[TrainedObjects] = []
        self._loop_state = loop_state
        self._said: set[str] = set()

    def may_train(self, frame: FrameType | None) -> None:
        """Track what may train one day."""
        for trained in self.trained:
            self._remember(trained.candidates(frame))

    @property
    def updates(self) -> int:
        """Optimizer steps that were seen in this process."""
        return sum(trained.steps for trained in self.trained)

    def were_trained(self, names: Iterable[str]) -> None:
        """What is kept by these names has come back from a checkpoint: it trains, though it may not have stepped here."""
        there = self._loop_state.objects
        for trained in self.trained:
            trained.were_trained([there[name] for name in names if name in there])

    def grew(self) -> bool:
        """Whether an object trains that was not known at the last boundary."""
        return any(trained.grew for trained in self.trained)

    def find(self, frame: FrameType | None) -> str:
        """Track what trains now; a sentence about what is new."""
        for trained in self.trained:
            self._remember(self._in_use_with(trained, frame))
        there = self._loop_state.objects
        new = [name for name in there if name not in self._said]
        self._said |= set(new)
        if not new:
            return ""
        return f"Checkpointing: {', '.join(f'{name} ({type(there[name]).__name__})' for name in new)}."

    def find_again(self, names: Iterable[str], frame: FrameType | None) -> None:
        """Track what may train and has one of these names, which are a checkpoint's."""
        wanted = set(names) - set(self._loop_state.objects)
        for trained in self.trained if wanted else ():
            there = trained.candidates(frame, wanted)
            self._loop_state.kept.rename({id(value): name for name, value in there.items() if name in wanted})
            self._remember({name: value for name, value in self._unknown(there).items() if name in wanted})

    def leave_behind(self, made: MadeInLoops, can_be_made: Callable[[object], bool]) -> None:
        """Stop tracking what earlier iterations have made and the script does not train any more, so that it is made anew.

        Of the innermost loop's only what can be made: it may also be what the first iteration makes for all the others.
        An optimizer that an earlier iteration of a loop around has put in the place of another is made anew, too, and with
        it what belongs to it; a model keeps its file, and what it consists of is in the script's state.
        """
        kept = self._loop_state.kept
        busy: dict[str, object] = {}
        for name, value in kept.found.items():
            since, innermost = made.since(value)
            if since is None:
                continue
            if not any(trained.is_idle(value, since) for trained in self.trained):
                if innermost:
                    busy[name] = value
                elif any(trained.steers(value) for trained in self.trained):
                    kept.forget(name)
            elif not innermost or can_be_made(value):
                kept.forget(name)
        if busy and made.trained_inside() and all(map(can_be_made, busy.values())):
            for name in busy:
                kept.forget(name)

    def graphs_in(self, state: ScriptState, variables: Any) -> list[Unkept]:
        """Graphs in a difference of the script's variables that gradients are still to be taken through."""
        return [
            part_of_a_graph(node["name"], node["type"])
            for node in variables["nodes"]
            if isinstance(node["data"], Mapping)
            and any(
                trained.awaits_backward(node["data"].get("array"))
                and not trained.computes_again(state.at(node["path"][:-1]), str(node["path"][-1][1]))
                for trained in self.trained
            )
        ]

    def _remember(self, objects: Mapping[str, object]) -> None:
        self._loop_state.kept.release_dropped()
        self._loop_state.kept.replace_found(objects)
        self._loop_state.track(self._unknown(objects), found=True)

    def _in_use_with(self, trained: TrainedObjects, frame: FrameType | None) -> Mapping[str, object]:
        """What trains now. An optimizer that the script has replaced may linger, held by us or by a cycle of references."""
        kept = self._loop_state.kept
        kept.release_dropped()
        objects = trained.objects(frame)
        if kept.displaced_by(objects):
            objects = {}
            gc.collect()
            kept.release_dropped()
            objects = trained.objects(frame)
        return objects

    def _unknown(self, found: Mapping[str, object]) -> dict[str, object]:
        there = self._loop_state.objects
        known = {id(value) for value in there.values()}
        return {n: v for n, v in found.items() if id(v) not in known and n not in there}
