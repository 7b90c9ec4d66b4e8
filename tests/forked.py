"""Fresh processes that need not import a framework: forks of one that has imported it and done nothing else."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]


class Forks:
    """Runs `main` of a module of ours again and again, each time in a process of its own.

    Args:
        module: has `warm`, which imports what all of them need, and `main`, which reads `sys.argv` and standard input.
        environ: the environment of all of them.
        folder: for what they print.
    """

    def __init__(self, module: str, environ: Mapping[str, str], folder: Path) -> None:
        self._folder = folder
        self._said = folder / "forks.txt"
        self._number = 0
        with self._said.open("w") as said:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", module],
                env=environ,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.communicate(timeout=240)

    def __call__(self, argv: Sequence[str], stdin: str) -> str:
        """What one of them prints, which has to end with status 0."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._number += 1
        out, err = (self._folder / f"fork-{self._number}.{name}" for name in ("out", "err"))
        order = {"argv": [*argv], "stdin": stdin, "out": str(out), "err": str(err)}
        print(json.dumps(order), file=self._parent.stdin, flush=True)
        status = self._parent.stdout.readline()
        assert status, f"the process that forks is gone: {self._said.read_text()[-4000:]}"
        said = err.read_text()
        sys.stderr.write(said[-20000:])
        assert status == "0\n", f"status {status}{out.read_text()[-2000:]}\n{said[-6000:]}"
        return out.read_text()


def main() -> None:
    """Fork for each line on standard input; how the child has ended is a line on standard output."""
    module = importlib.import_module(sys.argv[1])
    module.warm()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(**json.loads(line))
            module.main()
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(argv: list[str], stdin: str, out: str, err: str) -> None:
    sys.argv = [sys.argv[1], *argv]
    sys.stdin = io.StringIO(stdin)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)


if __name__ == "__main__":
    main()
