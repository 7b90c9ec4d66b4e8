"""What a script sets for its whole process: the environment, the current folder, torch's default dtype.

A resumed process sets again what the script sets before it trains. What it set in the middle of training is a difference
like any other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from backprop_core import contract
from backprop_core.ports.framework import Framework, ProcessSetting
from backprop_core.script_state.namespace import NotSetError

NAME: Final = "process settings"
"""No name of a module, so no script has such a namespace of its own."""
_FOLDER: Final = "current folder"
_VARIABLE: Final = "environment "
_OF_THE_ATTEMPT: Final = (
    contract.PREFIX, "SLURM_", "PBS_", "LSB_", "FLUX_", "PMI", "OMPI_", "MASTER_", "RANK", "LOCAL_", "NODE_RANK", "GROUP_",
    "ROLE_", "WORLD_SIZE", "TORCHELASTIC_", "PWD", "OLDPWD", "TMPDIR", "COLUMNS", "LINES", "TERM",
    "PYTEST_", "WANDB_", "MLFLOW_", "JPY_", "RAY_", "PL_", "ACCELERATE_",
    "PATH", "LD_", "PYTHON", "CUDA_", "NCCL_", "TORCHINDUCTOR_", "TRITON_",
)  # fmt: skip
"""How variables begin that tell of this attempt: its place in a job, its machine, its terminal, its tracker. A compiler sets
its own when it begins."""
_SECRET: Final = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


class ProcessSettings:
    """Settings by name. A `Namespace`.

    Args:
        frameworks: they have settings of their own.
    """

    loops_counted = False
    name = NAME

    def __init__(self, frameworks: Iterable[Framework]) -> None:
        self._frameworks = tuple(frameworks)

    def items(self) -> Iterable[tuple[str, object]]:
        found: list[tuple[str, object]] = [
            (_VARIABLE + key, value) for key, value in os.environ.items() if _is_kept(key)
        ]
        with suppress(OSError):  # it was deleted
            found.append((_FOLDER, str(Path.cwd())))
        found += [(name, setting.value) for name, setting in self._others().items()]
        return found

    def set(self, name: str, value: object) -> None:
        """Raises `NotSetError`: this process does not take it."""
        try:
            if name == _FOLDER:
                os.chdir(_text(value))
            elif name.startswith(_VARIABLE):
                os.environ[name.removeprefix(_VARIABLE)] = _text(value)
            else:
                self._others()[name].put(value)
        except KeyError:
            raise NotSetError("what has this setting is not imported here") from None
        except Exception as error:  # a folder that is gone, or a value that another version had
            raise NotSetError(f"{type(error).__name__}: {error}") from None

    def delete(self, name: str) -> None:
        if name.startswith(_VARIABLE):
            os.environ.pop(name.removeprefix(_VARIABLE), None)

    def _others(self) -> dict[str, ProcessSetting]:
        found = _of_numpy()
        for framework in self._frameworks:
            found.update(framework.settings())
        return found


@cache
def _is_kept(variable: str) -> bool:
    """Whether a variable of the environment is the script's matter, and nothing to be hidden."""
    return not variable.startswith(_OF_THE_ATTEMPT) and not any(word in variable.upper() for word in _SECRET)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text but a {type(value).__name__}")
    return value


def _of_numpy() -> dict[str, ProcessSetting]:
    """How numpy treats errors, and how it prints numbers."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "geterr"):
        return {}
    errors = _each("numpy.seterr", numpy.geterr(), numpy.seterr)
    return {**errors, **_each("numpy.set_printoptions", numpy.get_printoptions(), numpy.set_printoptions)}


def _each(prefix: str, options: Mapping[str, Any], put: Callable[..., object]) -> dict[str, ProcessSetting]:
    """Options that are set by keyword, each alone; those that are plain values."""
    return {
        f"{prefix} {name}": ProcessSetting(value, partial(_put_by_keyword, put, name))
        for name, value in options.items()
        if isinstance(value, bool | int | float | str)
    }


def _put_by_keyword(put: Callable[..., object], name: str, value: object) -> None:
    put(**{name: value})
