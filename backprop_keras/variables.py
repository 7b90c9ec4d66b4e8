"""Keras variables by path, as numpy arrays, and back, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

from backprop_keras.backends import active

_NUMBERED = re.compile(r"_\d+(?=[/_]|$)")


def model_variables(model: Any) -> dict[str, Any]:
    """Weights, statistics and SeedGenerators of the model by path."""
    return named(model.variables)


def metric_variables(model: Any) -> dict[str, Any]:
    """The running sums of the model's metrics, its loss among them."""
    return named(model.metrics_variables)


def optimizers_of(model: Any) -> dict[str, Any]:
    """The optimizers of the model: the compiled one, and others that it or a model in it holds (a GAN has two)."""
    found: dict[str, Any] = {}
    main = getattr(model, "optimizer", None)
    if main is not None and hasattr(main, "variables"):
        found["optimizer"] = main
    for name, optimizer in _held(model, "optimizer", {id(main)}):
        found[name] = optimizer
    return found


def _held(owner: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Optimizers among the attributes of a model, in lists and dictionaries there, and in its models; each once."""
    if id(owner) in seen:
        return
    seen.add(id(owner))
    if isinstance(owner, keras.optimizers.Optimizer):
        yield name, owner
    elif isinstance(owner, keras.Model):  # what the user named before what Keras lists once more
        for key in sorted(vars(owner), key=lambda key: (key.startswith("_"), key)):
            yield from _held(vars(owner)[key], f"{name}.{key.lstrip('_')}", seen)
    elif isinstance(owner, Mapping):
        for key, value in owner.items():
            yield from _held(value, f"{name}.{key}", seen)
    elif isinstance(owner, list | tuple):
        for number, value in enumerate(owner):
            yield from _held(value, f"{name}.{number}", seen)


def named(variables: Iterable[Any]) -> dict[str, Any]:
    """Variables by path; a path that comes twice gets a number."""
    result: dict[str, Any] = {}
    for variable in variables:
        path, number = variable.path, 2
        while path in result:
            path, number = f"{variable.path}~{number}", number + 1
        result[path] = variable
    return result


def arrays(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The values now, without copying where the backend allows it."""
    array = active().array
    return {path: array(variable) for path, variable in variables.items()}


def mismatch(variables: Mapping[str, Any], saved: Any, *, exact: bool) -> str | None:
    """Why `saved` cannot be assigned to `variables`, as half a sentence, or None.

    Args:
        exact: dtypes have to be the same as well; backends differ in those of counters and seeds.
    """
    if not isinstance(saved, Mapping):
        return "is not a set of variables"
    if len(saved) != len(variables):
        return f"has {len(saved)} variables, but here there are {len(variables)}{_example(variables, saved)}"
    for path, variable, array in _pairs(variables, saved):
        if variable is None:
            return f"lacks {path}"
        have, want = tuple(variable.shape), tuple(array.shape)
        if have != want or (exact and str(variable.dtype) != array.dtype.name):
            return (
                f"has {path} as {array.dtype.name}{list(want)}, but here it is {variable.dtype}{list(have)}"
            )
    return None


def assign(variables: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Give every variable its saved value; `mismatch` has said that they fit."""
    value = active().value
    for _, variable, array in _pairs(variables, saved):
        variable.assign(value(array))


def _pairs(variables: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each saved array with its variable, or with None.

    Keras numbers layers by how many the process has made so far, so `dense_7/kernel` may be `dense/kernel` in another
    process: where the paths are not the same, the order decides, and the paths must agree but for these numbers and the
    name of the outermost owner.
    """
    if saved.keys() == variables.keys():
        for path, array in saved.items():
            yield path, variables[path], array
        return
    for (path, array), (here, variable) in zip(saved.items(), variables.items(), strict=True):
        yield path, variable if _same_place(path, here) else None, array


def _same_place(path: str, other: str) -> bool:
    """An optimizer that was built by its first step lies one level deeper than one that was built before it. One that was
    built in a compiled model names its slots after the model, too, and not if it came out of a file.
    """
    one, two = sorted((_NUMBERED.sub("", path), _NUMBERED.sub("", other)), key=len)
    if two == one or two.endswith(f"/{one}") or one.partition("/")[2] == two.partition("/")[2]:
        return True
    owner, _, last = one.rpartition("/")
    longer_owner, _, longer = two.rpartition("/")
    return owner == longer_owner and longer.endswith(f"_{last}")


def _example(variables: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    extra = sorted(set(saved) - set(variables)) or sorted(set(variables) - set(saved))
    return f" (one that is not in both: {extra[0]})" if extra else ""
