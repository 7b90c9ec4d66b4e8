"""Finding what a training uses, and a name for each that is the same in every process."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from backprop_torch.objects import unwrapped

_KINDS: tuple[type, ...] = (nn.Module, Optimizer, LRScheduler, torch.amp.GradScaler)


def live_objects() -> dict[type, list[Any]]:
    """Every module, optimizer, scheduler and scaler that exists, oldest first.

    `type(o)` and not `isinstance`, which would wake torch's lazy deprecation objects; each type is asked once: a process
    with several frameworks has millions of objects.
    """
    found: dict[type, list[Any]] = {kind: [] for kind in _KINDS}
    asked: dict[int, type | None] = {}  # by id: a metaclass may refuse to be hashed
    for value in gc.get_objects():
        own = type(value)
        if id(own) not in asked:
            asked[id(own)] = next((kind for kind in _KINDS if issubclass(own, kind)), None)
        kind = asked[id(own)]
        if kind is not None and inner_optimizer(value) is None:
            found[kind].append(value)
    return found


def inner_optimizer(value: object) -> Optimizer | None:
    """The optimizer that `value` stands in front of, where it has no parameter groups of its own: Lightning Fabric's."""
    if not issubclass(type(value), Optimizer) or "param_groups" in vars(value):
        return None
    if any("param_groups" in vars(kind) for kind in type(value).__mro__):
        return None  # accelerate's is saved under its own name, as it always was
    return next((one for one in vars(value).values() if issubclass(type(one), Optimizer)), None)


def objects_in_frames(frame: FrameType) -> dict[type, list[Any]]:
    """The same of what the variables of `frame` and the frames around it name, which is much quicker."""
    found: dict[type, list[Any]] = {kind: [] for kind in _KINDS}
    seen: set[int] = set()
    for value, _ in _variables(_frames_of_script(frame)):
        for kind in _KINDS:
            if issubclass(type(value), kind) and id(value) not in seen:
                seen.add(id(value))
                found[kind].append(value)
    return found


def owns_all(found: Iterable[object], optimizers: Iterable[Optimizer]) -> bool:
    """Whether the modules in `found` own every parameter of `optimizers`."""
    owned = {id(p) for module in found if isinstance(module, nn.Module) for p in module.parameters()}
    return all(id(p) in owned for one in optimizers for group in one.param_groups for p in group["params"])


def in_use_with(optimizers: Iterable[Optimizer], live: Mapping[type, list[Any]]) -> list[object]:
    """The modules that own parameters of `optimizers`, copies of them (EMA), and their schedulers and scalers."""
    optimizers = list(optimizers)
    trained = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    roots = _roots(live[nn.Module])
    owners = [module for module in roots if any(id(p) in trained for p in module.parameters())]
    own = {id(module) for module in owners}
    shapes = [_signature(module) for module in owners]
    copies = [
        module
        for module in roots
        if id(module) not in own
        and (isinstance(module, AveragedModel) or (_signature(module) and _signature(module) in shapes))
    ]
    ids = {id(optimizer) for optimizer in optimizers}
    schedulers = [s for s in live[LRScheduler] if id(getattr(s, "optimizer", None)) in ids]
    inner = {id(s) for outer in schedulers for s in getattr(outer, "_schedulers", [])}
    scalers = [scaler for scaler in live[torch.amp.GradScaler] if scaler.is_enabled()]
    return [*owners, *copies, *optimizers, *(s for s in schedulers if id(s) not in inner), *scalers]


def _roots(modules: list[nn.Module]) -> list[nn.Module]:
    """Modules that are inside no other; a compiled model stands for the one it wraps."""
    inside = {id(child) for module in modules for child in module.children()}
    inside |= {id(unwrapped(module)) for module in modules if unwrapped(module) is not module}
    return [module for module in modules if id(module) not in inside]


def _signature(module: nn.Module) -> tuple[Any, ...]:
    return tuple((name, tuple(p.shape)) for name, p in unwrapped(module).named_parameters())


def named(values: Iterable[object], given: Mapping[int, str]) -> dict[str, object]:
    """Each object under the name that the script gives it, else under its type's name with a number.

    Args:
        given: names by the objects' ids, see `script_names`.
    """
    result: dict[str, object] = {}
    for value in values:
        name = given.get(id(value)) or type(value).__name__
        candidate, count = name, 1
        while candidate in result:
            count += 1
            candidate = f"{name}_{count}"
        result[candidate] = value
    return result


def script_names(
    frame: FrameType | None, *, outermost_wins: bool = False, preferred: Collection[str] = ()
) -> dict[int, str]:
    """Ids of objects and their names: variables of `frame` and of frames around it, without those of torch, Fabric and ours.

    Args:
        outermost_wins: of several names the one in the outermost frame, which does not depend on where in the script the
            question comes up; otherwise the one nearest to `frame`.
        preferred: names that come before all others.
    """
    frames = _frames_of_script(frame)
    names: dict[int, str] = {}
    for value, name in _variables(frames if outermost_wins else reversed(frames)):
        if name in preferred or names.get(id(value)) not in preferred:
            names[id(value)] = name
    return names


def _frames_of_script(frame: FrameType | None) -> list[FrameType]:
    """`frame` and the frames around it, those of torch, Fabric and ours left out."""
    frames: list[FrameType] = []
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in (
            "torch",
            "lightning",
            "lightning_fabric",
            "backprop_torch",
            "backprop_core",
        ):
            frames.append(frame)
        frame = frame.f_back
    return frames


def _locals(frame: FrameType) -> dict[str, object]:
    """The local variables of `frame`, of which nothing is left behind.

    Up to Python 3.12 a function's frame keeps the dictionary that it made for who asked, and all values in it, until it is
    asked again: the script's `del model` would free nothing.
    """
    asked = frame.f_locals
    values = dict(asked)
    if type(asked) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        asked.clear()
    return values


def _variables(frames: Iterable[FrameType]) -> Iterator[tuple[Any, str]]:
    for one in frames:
        for scope in (one.f_globals, _locals(one)):
            for name, value in list(scope.items()):
                if name.startswith("_"):
                    continue
                if issubclass(type(value), _KINDS):
                    inner = inner_optimizer(value)
                    yield value if inner is None else inner, name
                else:
                    yield from _attributes(value)


def _attributes(value: object) -> Iterator[tuple[Any, str]]:
    """A trainer object that holds the model as an attribute gives it that name."""
    if type(value).__module__ in ("builtins", "types"):
        return
    try:
        attributes = vars(value)
    except TypeError:
        return
    for name, inner in list(attributes.items()):
        if not name.startswith("_") and issubclass(type(inner), _KINDS):
            yield inner, name
