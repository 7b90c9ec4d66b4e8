"""Where the random generators of an unseeded script begin: at the same place in every attempt of a run.

The governor makes up one seed for each run. What a script draws before it seeds anything (a random split, initial weights)
then is the same in each attempt, and another in each run, as without us. Only the script's own process is seeded so: the
processes that it starts with `multiprocessing` draw from the operating system, as ever: no two of them draw the same.
"""

from __future__ import annotations

import os
import sys

from backprop_core import contract

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

WAITED_FOR = {
    "random": "begin_python",
    "numpy.random": "begin_numpy",
    "torch": "begin_torch",
    "tensorflow": "begin_tensorflow",
}
"""By module: the function here that is called when the script has imported it."""
_claimed: tuple[int, str] | None = None
_entropy: Entropy | None = None


def may_begin() -> bool:
    """Whether this process is a script whose generators are to begin where the run's do."""
    return bool(os.environ.get(contract.RANDOM_SEED)) and sys.argv[:1] not in ([], ["-c"], [""])


def begin_python() -> None:
    """Right after the first `import random`."""
    random = sys.modules["random"]
    random.seed(random.Random(_seed("random")).getrandbits(1024))


def begin_numpy() -> None:
    """Right after the first `import numpy`: the global generator, and what an unseeded `default_rng()` begins with."""
    global _entropy
    numpy_random = sys.modules["numpy.random"]
    source = _source("numpy")
    numpy_random.seed([source.getrandbits(32) for _ in range(16)])
    maker = sys.modules.get("numpy.random.bit_generator")
    if callable(
        getattr(maker, "randbits", None)
    ):  # a private name; where it is gone, default_rng() is as without us
        _entropy = Entropy(_source("entropy"), maker.randbits)  # type: ignore[union-attr]
        maker.randbits = _entropy  # type: ignore[union-attr]


def begin_torch() -> None:
    """Right after the first `import torch`; an accelerator's generators begin when it is first used."""
    sys.modules["torch"].manual_seed(_source("torch").getrandbits(63))


def begin_tensorflow() -> None:
    """Right after the first `import tensorflow`."""
    sys.modules["tensorflow"].random.set_seed(_source("tensorflow").getrandbits(62))


class Entropy:
    """Stands in for `secrets.randbits` where numpy asks for entropy. Forks ask the operating system."""

    def __init__(self, source: Random, original: Callable[[int], int]) -> None:
        self.source = source
        self._original = original
        self._owner = os.getpid()

    def __call__(self, bits: int) -> int:
        return self.source.getrandbits(bits) if os.getpid() == self._owner else self._original(bits)


def entropy() -> Random | None:
    """What unseeded generators of numpy begin with from here on; None where that is not ours."""
    return None if _entropy is None else _entropy.source


def _source(what: str) -> Random:
    import random

    return random.Random(_seed(what))


def _seed(what: str) -> str:
    return f"{os.environ[contract.RANDOM_SEED]} {_process()} {what}"


def _process() -> str:
    """A name of this process that is the same in each attempt, and that no other of the attempt has."""
    global _claimed
    if _claimed is None or _claimed[0] != os.getpid():
        ranks = [os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK")]
        words: list[Any] = [*sys.argv, *ranks]
        # A rank that is started again within an attempt begins where it did.
        number = 0 if ranks[0] else _number_of("\0".join(words))
        _claimed = (os.getpid(), f"{words} {number}")
    return _claimed[1]


def _number_of(command: str) -> int:
    """How many processes of the same command the attempt has had before this one."""
    from binascii import crc32

    folder = os.path.join(os.environ[contract.RUN_DIR], "attempts", os.environ[contract.ATTEMPT])
    name = f"unseeded-{crc32(os.fsencode(command)):08x}"
    for number in range(10_000):
        try:
            os.close(
                os.open(os.path.join(folder, f"{name}.{number}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            )
        except FileExistsError:
            continue
        except OSError:
            break
        return number
    return os.getpid()
