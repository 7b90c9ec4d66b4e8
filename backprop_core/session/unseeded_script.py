"""Whether a script deals its data at random and does not seed that: each of its processes deals otherwise.

Under `backprop run` the generators begin where those of the run did (`unseeded.py`). A time box or a callback of the
script's own comes too late for that: `random_split` without a seed has dealt already, and a resumed training would validate
on what the first attempt had trained. All that can be done is to say so. Nobody knows by then what was drawn, so the source
is read.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from backprop_core import contract
from backprop_core.script_state.functions import is_script_file

_FAMILIES: Final = {"random": "random", "numpy.random": "numpy", "sklearn": "numpy", "torch": "torch"}
"""By what the name of a function begins with: the generator that it draws from."""
_DEALS: Final = frozenset(
    {"random_split", "train_test_split", "shuffle", "permutation", "randperm", "sample", "choice", "choices"}
    | {"KFold", "StratifiedKFold", "ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit", "resample"}
    | {"randint", "randrange", "rand", "randn", "uniform", "normal", "standard_normal"}
)
"""Functions and classes that scripts choose or make their data with."""
_SEEDED_BY: Final = ("random_state", "generator", "rng", "seed")
"""Arguments of theirs that take a seed or a generator."""
_LARGEST_BYTES: Final = 2_000_000
"""No file that a person has written is larger."""


def say_what_is_unseeded(say: Callable[[str, str], None], environ: Mapping[str, str]) -> None:
    """Tell a script that resumes in a time box of its own what it had dealt before, unless its run seeds it."""
    drawn = [] if environ.get(contract.RANDOM_SEED) else drawn_unseeded()
    if drawn:
        say(
            f"This script calls {', '.join(drawn)} without a seed: what it drew before training, such as a split of the "
            "data, may differ from the first attempt's. Seed it, or use 'backprop run', where unseeded numbers are the "
            "same in each attempt.",
            "warning",
        )


def drawn_unseeded(files: Iterable[str] | None = None) -> list[str]:
    """The functions with which a script deals its data from a generator that nothing in it seeds.

    Args:
        files: its source files; None: those of its modules that are imported by now.
    """
    deals: set[tuple[str, str]] = set()
    seeded: set[str] = set()
    for path in _own_files() if files is None else files:
        for name, call in _calls(path):
            last, family = name.rpartition(".")[2], _family(name)
            if "seed" in last.lower():  # by a name that is not known: of all
                seeded |= {family} if family else set(_FAMILIES.values())
            elif family and last in _DEALS and not _is_settled(last, call):
                deals.add((last, family))
    return sorted({name for name, family in deals if family not in seeded})


def _own_files() -> list[str]:
    found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({path for path in found if isinstance(path, str) and is_script_file(path)})


def _family(name: str) -> str:
    return next((family for begins, family in _FAMILIES.items() if name.startswith(f"{begins}.")), "")


def _is_settled(last: str, call: ast.Call) -> bool:
    """Whether a call says by itself how it deals."""
    given = {
        one.arg: one.value.value if isinstance(one.value, ast.Constant) else one.value
        for one in call.keywords
        if one.arg is not None
    }
    if any(given.get(name) is not None for name in _SEEDED_BY) or given.get("shuffle") is False:
        return True
    return (last.endswith("KFold") and "shuffle" not in given) or (
        last == "random_split" and len(call.args) > 2
    )


def _calls(path: str) -> Iterator[tuple[str, ast.Call]]:
    """Those in a source file, each with the full name of what is called, as far as imports tell it."""
    try:
        source = Path(path).read_bytes()
        tree = ast.parse(source if len(source) <= _LARGEST_BYTES else b"")
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    nodes = list(ast.walk(tree))
    imported: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {one.asname: one.name for one in node.names if one.asname}
            imported |= {(first := one.name.partition(".")[0]): first for one in node.names if not one.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    for node in nodes:
        if isinstance(node, ast.Call):
            root, dot, rest = _dotted(node.func).partition(".")
            yield imported.get(root, f".{root}") + dot + rest, node


def _dotted(function: ast.expr) -> str:
    """`a.b.c` as text; where it hangs on anything but a name, what hangs there."""
    if isinstance(function, ast.Attribute):
        return f"{_dotted(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""
