"""What a script draws without a seed is the same in each attempt of a run, and another in each run and process."""

from __future__ import annotations

from pathlib import Path

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import with_environment

DRAWS = """
    import random, sys
    import numpy as np
    print("python", random.random())
    print("numpy", np.random.rand(), np.random.default_rng().random(), np.random.default_rng().random())
    if "torch" in sys.argv:
        import torch
        from torch.utils.data import random_split
        print("torch", torch.nn.Linear(1, 1).weight.item(), list(random_split(range(9), [6, 3])[1]))
    print("set", list({"a", "b", "c", "d", "e", "f", "g"}))
    sys.exit(1)
"""
CHILDREN = """
    import multiprocessing, os, random, subprocess, sys
    import numpy as np

    def draw(_):
        return random.random(), np.random.default_rng().random()

    if len(sys.argv) > 1:
        print("child", *draw(0))
    elif __name__ == "__main__":
        np.random.default_rng()
        for _ in range(2):
            subprocess.run([sys.executable, __file__, "child"], check=True)
        for method in ("spawn", "fork"):
            for _ in range(2):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    print(method, *pool.map(draw, [0])[0])
        sys.exit(1)
"""


def _attempts(backprop: CommandLine, run: str, script: Path, *arguments: str) -> tuple[list[str], list[str]]:
    first = backprop("run", "--run-id", run, str(script), "--", *arguments)
    second = backprop("resume", run)
    assert first.returncode == second.returncode == 1, first.stderr
    return first.stdout.splitlines(), second.stdout.splitlines()


def test_an_attempt_that_saved_nothing_is_followed_by_the_same_draws(backprop: CommandLine) -> None:
    """Generators of random, numpy and torch, a split, initial weights and the order of a set; another run draws others."""
    script = backprop.script(DRAWS)
    first, second = _attempts(backprop, "one", script, "torch")
    assert len(first) == 4
    assert first == second
    other = backprop("run", str(script)).stdout.splitlines()
    assert not {line.split()[1] for line in other[:2]} & {line.split()[1] for line in first}


def test_a_hash_seed_of_the_users_stays(backprop: CommandLine) -> None:
    """PYTHONHASHSEED is set only where the user has set none."""
    with_environment(backprop, PYTHONHASHSEED="7")
    backprop.script("import os; print(os.environ['PYTHONHASHSEED'])")
    assert backprop("run", "train.py").stdout == "7\n"


def test_no_two_processes_draw_the_same(backprop: CommandLine) -> None:
    """Programs that the script starts twice, and processes of multiprocessing, draw numbers of their own."""
    first, second = _attempts(backprop, "one", backprop.script(CHILDREN))
    drawn = [word for line in first for word in line.split()[1:]]
    assert len(drawn) == 12
    assert len(set(drawn)) == 12
    assert [line for line in first if line.startswith("child")] == [
        line for line in second if line.startswith("child")
    ]
