"""PyTorch, as the core sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader

from backprop_core.checkpoints.shards import SavedShards, Shards
from backprop_core.ports.framework import ProcessSetting, Tracked
from backprop_core.ports.loaders import LoaderReading, RandomnessKeeper
from backprop_core.ports.ranks import Ranks
from backprop_core.ports.unmodified_loop import LoopListener, RawLoop
from backprop_core.true_class import is_a
from backprop_torch import dataloader_state, objects, sharded
from backprop_torch.accelerated import AcceleratedReading, is_accelerated
from backprop_torch.gathered import shards_in_place
from backprop_torch.generators import GeneratorTracked, TorchRandomness, cuda_in_use
from backprop_torch.loader_passes import TorchLoaderPasses, shared_passes
from backprop_torch.made_objects import made, point_at_weights, recipe_of
from backprop_torch.needs import check_needs
from backprop_torch.parameter_groups import ParameterGroups
from backprop_torch.process_settings import settings
from backprop_torch.pruned import hook_again
from backprop_torch.ranks import knows_ranks, ranks_of_process, stays_away
from backprop_torch.raw_loop import RawTorchLoop
from backprop_torch.script_parts import script_parts, stored_with
from backprop_torch.stateful_reading import StatefulReading
from backprop_torch.trained_objects import TorchTrainedObjects
from backprop_torch.translator import TorchTranslator


class TorchFramework:
    """Found by the core through the entry point `backprop.frameworks`."""

    name = "torch"

    def __init__(self) -> None:
        self.translator = TorchTranslator()

    def adopt(self, value: object) -> Tracked | None:
        if is_a(value, nn.Module):
            sharded.refuse_flattened(value)
            return objects.ModuleTracked(value)
        if is_a(value, Optimizer):
            return objects.OptimizerTracked(value)
        if is_a(value, torch.Generator):
            return GeneratorTracked(value)
        if is_a(value, torch.Tensor):
            return objects.TensorTracked(value)
        return None

    def companion(self, value: object, tracked: Mapping[str, object]) -> Tracked | None:
        if is_a(value, nn.Module):
            return objects.ModuleRest(value)
        if is_a(value, Optimizer):
            return objects.OptimizerRest(value, tracked)
        if isinstance(value, DataLoader):  # accelerate's loaders are no DataLoaders and say that they are
            return dataloader_state.LoaderRest(value)
        return None

    def script_parts(self, kind: type) -> frozenset[str] | None:
        return script_parts(kind)

    def recipe(self, value: object) -> Mapping[str, Any] | None:
        return recipe_of(value)

    def made(self, kind: type, recipe: Mapping[str, Any]) -> object:
        return made(kind, recipe)

    def settle(self, value: object) -> None:
        hook_again(value)
        if is_a(value, nn.RNNBase):
            point_at_weights(value)

    def groups(self, name: str, value: object) -> ParameterGroups | None:
        plain = is_a(value, Optimizer) and "param_groups" in vars(value)
        return ParameterGroups(value, name) if plain else None  # type: ignore[arg-type]

    def stored_with(self, tracked: Mapping[str, object]) -> Callable[[object], bool]:
        return stored_with(tracked)

    def at_rest(self, tracked: Sequence[object]) -> AbstractContextManager[None]:
        return shards_in_place(tracked)

    def randomness(self) -> Tracked:
        return TorchRandomness()

    def settings(self) -> Mapping[str, ProcessSetting]:
        return settings()

    def environment(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = {
            "torch": str(torch.__version__),
            "torch_threads": torch.get_num_threads(),
            "torch_deterministic": torch.are_deterministic_algorithms_enabled(),
            "torch_default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
            "torch_float32_matmul_precision": torch.get_float32_matmul_precision(),
            "torch_cpu": torch.backends.cpu.get_cpu_capability(),
        }
        if torch.cuda.is_available():
            facts["cuda"] = torch.version.cuda
            facts["cuda_device"] = torch.cuda.get_device_name()
            facts["cudnn_benchmark"] = torch.backends.cudnn.benchmark
            facts["cudnn_deterministic"] = torch.backends.cudnn.deterministic
        return facts

    def reading(
        self, loader: object, randomness: RandomnessKeeper, *, replay: bool = False
    ) -> LoaderReading | None:
        if not isinstance(loader, DataLoader):
            return None
        if is_accelerated(loader):
            return AcceleratedReading(loader, randomness, replay=replay)
        if replay:
            return dataloader_state.StockLoaderReading(loader, randomness, replay=True)
        if callable(getattr(loader, "state_dict", None)) and callable(
            getattr(loader, "load_state_dict", None)
        ):
            return StatefulReading(loader, randomness)
        return dataloader_state.StockLoaderReading(loader, randomness)

    def synchronize(self) -> None:
        if cuda_in_use():
            torch.cuda.synchronize()

    @contextmanager
    def watch_steps(self, stepped: Callable[[], None]) -> Iterator[None]:
        hook = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: stepped())
        try:
            yield
        finally:
            hook.remove()

    def raw_loop(
        self, listener: LoopListener, randomness: RandomnessKeeper, caller: FrameType | None
    ) -> RawLoop:
        check_needs()
        return RawTorchLoop(listener, randomness, caller)

    def trained_objects(self) -> TorchTrainedObjects:
        return TorchTrainedObjects()

    def loader_passes(self) -> TorchLoaderPasses:
        return shared_passes(self.reading)

    def ranks(self) -> Ranks | None:
        return ranks_of_process()

    def knows_ranks(self) -> bool:
        return knows_ranks()

    def rank_stays_away(self, why: str) -> None:
        stays_away(why)

    def is_replicated(self, value: object) -> bool:
        return isinstance(value, nn.Module | Optimizer)

    def refuse_nondeterminism(self) -> str:
        torch.use_deterministic_algorithms(True)
        return "torch.use_deterministic_algorithms(True)"

    def holds_spread(self, values: Iterable[object]) -> bool:
        return sharded.holds_spread(values)

    def own_block(self, value: object) -> object:
        return value.to_local().detach() if sharded.is_spread(value) else value  # type: ignore[attr-defined]

    def divided(self, states: Mapping[str, object]) -> tuple[Mapping[str, object], Shards]:
        return sharded.divided(states)

    def united(
        self,
        states: Mapping[str, Any],
        saved: SavedShards | None,
        here: Mapping[str, object],
        objects: Mapping[str, object],
        empty: Callable[[int], memoryview] | None = None,
    ) -> Mapping[str, Any]:
        return sharded.united(states, saved, here, objects, empty)

    def is_tracing(self) -> bool:
        return False

    def is_stop_debris(self, error: BaseException) -> bool:
        text = str(error)
        if isinstance(error, RuntimeError):
            return "DataLoader worker" in text and (
                "exited unexpectedly" in text or "killed by signal" in text
            )
        return isinstance(error, OSError | EOFError) and _waited_for_worker(error)


def _waited_for_worker(error: BaseException) -> bool:
    """Whether it is the wait for a worker that failed: a batch whose worker has just ended cannot be fetched from it."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_name == "_try_get_data" and "dataloader" in code.co_filename:
            return True
        trace = trace.tb_next
    return False
