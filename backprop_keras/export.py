"""A checkpoint's weights as the `.weights.h5` file that `model.load_weights` opens.

Keras names the entries of that file after the attributes of the model's objects (`layers/dense/vars/0`), which a list of
variables does not tell. So each checkpoint holds the layout, noted while the model is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backprop_core.errors import UsageError

FIT = "backprop.fit"
"""The name of the state that holds the layout."""
_LAYOUT = "weights_h5"


def weights_layout(model: Any, variables: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Where `save_weights` would put each of `variables`: `[{"at": group, "name": layer, "vars": {key: path}}]`.

    None where Keras cannot tell, such as a layer that writes its variables in a way of its own.
    """
    from keras.src.saving import saving_lib

    path_of = {id(variable): path for path, variable in variables.items()}
    groups: list[dict[str, Any]] = []

    class Notebook(saving_lib.H5IOStore):  # type: ignore[misc]
        """A store that notes what would be written, and writes nothing."""

        def __init__(self) -> None:
            pass

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: Any = None) -> Any:
            groups.append({"at": path, "name": (metadata or {}).get("name", ""), "vars": {}})
            return self

        def __setitem__(self, key: str, value: Any) -> None:
            if id(value) in path_of:
                groups[-1]["vars"][key] = path_of[id(value)]

    try:
        saving_lib._save_state(
            model, weights_store=Notebook(), assets_store=None, inner_path="", visited_saveables=set()
        )
    except Exception:
        return None
    return [group for group in groups if group["vars"]]


def can_write_weights_h5(states: Mapping[str, Any]) -> bool:
    """Whether these are the states of a checkpoint that `write_weights_h5` can write."""
    fit = states.get(FIT)
    return isinstance(fit, Mapping) and bool(fit.get(_LAYOUT)) and isinstance(states.get("model"), Mapping)


def exported(states: Mapping[str, Any], directory: Path) -> dict[Path, Callable[[Path], None]]:
    """What `backprop export` adds for a checkpoint with a Keras model: the file, and how it is written."""
    if not can_write_weights_h5(states):
        return {}
    return {directory / "model.weights.h5": lambda path: _write(states, path)}


def write_weights_h5(states: Mapping[str, Any], path: str | Path) -> Path:
    """Write the model's weights to `path`, which must end in `.weights.h5`; returns it.

    Args:
        states: of a checkpoint that BackpropCallback made, as `CheckpointStore.load(...).states` gives them.

    Raises:
        UsageError: another name, or a checkpoint without a Keras model whose layout is known.
    """
    path = Path(path)
    if not path.name.endswith(".weights.h5"):
        raise UsageError(
            f"{path} is no name for Keras weights.", "Keras wants a name that ends in .weights.h5."
        )
    if not can_write_weights_h5(states):
        raise UsageError(
            "This checkpoint holds no Keras model whose weights file is known.",
            "model.safetensors in it holds the variables by path.",
        )
    _write(states, path)
    return path


def _write(states: Mapping[str, Any], path: Path) -> None:
    import h5py

    model = states["model"]
    with h5py.File(path, "w") as file:
        for group in states[FIT][_LAYOUT]:
            entry = file.create_group(f"{group['at']}/vars" if group["at"] else "vars")
            if group["name"]:
                entry.attrs["name"] = group["name"]
            for key, variable in group["vars"].items():
                dataset = entry.create_dataset(key, data=model[variable])
                if model[variable].dtype.name == "bfloat16":
                    dataset.attrs["dtype"] = "bfloat16"
