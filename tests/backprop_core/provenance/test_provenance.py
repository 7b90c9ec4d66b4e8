"""What an attempt was started from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from backprop_core.clock import SYSTEM
from backprop_core.history.differences import between_attempts
from backprop_core.provenance.attempt_provenance import (
    PROVENANCE_FILE,
    Provenance,
    gather,
    keep,
    read_provenance,
    seeds_in,
)
from backprop_core.provenance.bounded_output import printed_by
from backprop_core.provenance.git_state import MOST_DIFF_BYTES, GitState, git_state
from backprop_core.provenance.packages import packages_of, packages_on
from backprop_core.runs.attempt import attempt_dir
from tests.hostile_json import twisted

WHOLE = Provenance(
    command=("train.py", "--seed", "7"),
    interpreter="python",
    packages={"torch": "2.13.0"},
    host="here",
    cpus=2,
    gpus=("H200",),
    seeds={"seed": "7"},
    git=GitState("a" * 40, "diff --git a/x b/x\n+new\n", ("note.txt",), ""),
)


def _git(folder: Path, *words: str) -> None:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_what_git_knows_is_kept(tmp_path: Path) -> None:
    """Commit, changed lines and untracked names are told, also from a folder below; a clean checkout has an empty diff."""
    assert git_state(tmp_path, SYSTEM) is None
    _git(tmp_path, "init")
    unborn = git_state(tmp_path, SYSTEM)
    assert unborn is not None
    assert (unborn.commit, unborn.diff) == (None, None)
    assert "no commit yet" in unborn.note
    (tmp_path / "train.py").write_text("lr = 0.1\n")
    (tmp_path / ".gitignore").write_text("data\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "x")
    clean = git_state(tmp_path, SYSTEM)
    assert clean is not None
    assert (clean.diff, clean.untracked, clean.note) == ("", (), "")
    (tmp_path / "train.py").write_text("lr = 0.2\n")
    (tmp_path / "new file.py").touch()
    (tmp_path / "data").touch()
    (tmp_path / "below").mkdir()
    changed = git_state(tmp_path / "below", SYSTEM)
    assert changed is not None
    assert "+lr = 0.2" in (changed.diff or "")
    assert changed.commit == clean.commit


def test_a_huge_diff_is_cut_and_that_is_said(tmp_path: Path) -> None:
    """Of a diff larger than is kept the beginning is there, with a sentence."""
    _git(tmp_path, "init")
    (tmp_path / "big.txt").write_text("x\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "x")
    (tmp_path / "big.txt").write_text("yyyyyyyyy\n" * (MOST_DIFF_BYTES // 5))
    state = git_state(tmp_path, SYSTEM)
    assert state is not None
    assert len(state.diff or "") == MOST_DIFF_BYTES
    assert "256 KiB" in state.note


def test_a_repository_that_would_run_a_program_does_not(tmp_path: Path) -> None:
    """A checkout whose configuration names programs for diffs and for watching files has none of them run."""
    _git(tmp_path, "init")
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / ".gitattributes").write_text("*.txt diff=evil\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "x")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    trap.chmod(0o755)
    for key in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.fsmonitor", "core.pager"):
        _git(tmp_path, "config", key, str(trap))
    (tmp_path / "a.txt").write_text("y\n")
    state = git_state(tmp_path, SYSTEM)
    assert state is not None
    assert "+y" in (state.diff or "")
    assert not (tmp_path / "ran").exists()


def test_a_program_that_hangs_or_floods_is_ended(tmp_path: Path) -> None:
    """A silent one at the deadline, one that prints without an end when it has printed enough, one that is missing never."""

    def ask(argv: Sequence[str], patience_s: float) -> tuple[int, bool, str]:
        deadline = SYSTEM.monotonic() + patience_s
        printed = printed_by(argv, tmp_path, {}, most_bytes=1000, deadline=deadline, clock=SYSTEM)
        return len(printed.data), printed.whole, printed.trouble

    assert ask(["/bin/sleep", "600"], 0.2) == (0, True, "/bin/sleep took too long")
    assert ask(["/usr/bin/yes"], 60.0) == (1000, False, "")
    assert ask(["/bin/false"], 60.0)[2] == "/bin/false ended with status 1"
    assert "could not be started" in ask(["/no/such"], 60.0)[2]


def test_packages_are_those_that_pip_lists(tmp_path: Path) -> None:
    """Names and versions of this interpreter are what its own metadata says, asked directly and through a process."""
    import importlib.metadata

    found = packages_on(sys.path)
    for name in ("pytest", "hypothesis", "click"):
        assert found[name] == importlib.metadata.version(name)
    link = tmp_path / "python"
    link.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    link.chmod(0o755)
    asked = packages_of(str(link), tmp_path, SYSTEM)
    assert asked is not None
    assert asked["pytest"] == found["pytest"]
    assert packages_of("/bin/false", tmp_path, SYSTEM) is None


@pytest.mark.parametrize(
    ("command", "seeds"),
    [
        (["t.py", "--seed", "7"], {"seed": "7"}),
        (["t.py", "--data.seed=7", "-x"], {"data.seed": "7"}),
        (["t.py", "trainer.random_seed=-3"], {"trainer.random_seed": "-3"}),
        (["t.py", "--seed"], {}),
        (["t.py", "seed", "9"], {}),
        (["t.py", "--seed", "--lr"], {}),
    ],
)
def test_seeds_are_those_that_are_named(command: list[str], seeds: dict[str, str]) -> None:
    """A number behind an option with seed in its name is one; nothing else is guessed."""
    assert seeds_in(command, {}) == seeds
    assert seeds_in([], {"PYTHONHASHSEED": "0"}) == {"PYTHONHASHSEED": "0"}


def test_the_same_is_kept_once(tmp_path: Path) -> None:
    """A box that starts from the same points to the one before, and reads the same; another one is kept whole."""
    other = Provenance(command=("train.py", "--seed", "8"), packages={"torch": "2.14.0"})
    for number, provenance in enumerate((WHOLE, WHOLE, other), start=1):
        attempt_dir(tmp_path, number).mkdir(parents=True)
        assert keep(tmp_path, number, provenance) == ""
    sizes = [(attempt_dir(tmp_path, n) / PROVENANCE_FILE).stat().st_size for n in (1, 2, 3)]
    assert sizes[1] < 100
    assert [read_provenance(tmp_path, n) for n in (1, 2, 3, 4)] == [WHOLE, WHOLE, other, None]
    differences = {found.what: (found.before, found.after) for found in between_attempts(WHOLE, other)}
    assert differences["torch"] == ("2.13.0", "2.14.0")
    assert differences["seed seed"] == ("7", None)
    assert between_attempts(WHOLE, WHOLE) == ()


def test_a_folder_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    """What cannot be written ends nothing."""
    assert "could not be recorded" in keep(tmp_path / "gone", 1, WHOLE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    twisted(
        {"format_version": 1, "same_as": 1, "packages": {"a": "1"}, "git": {"diff": "x"}, "seeds": {"s": "1"}}
    )
)
def test_whatever_the_file_holds_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    """Files of any content, pointing to themselves and ahead, give a provenance or none, and always an end."""
    run_dir = tmp_path_factory.mktemp("run")
    for number in (1, 2):
        attempt_dir(run_dir, number).mkdir(parents=True)
        (attempt_dir(run_dir, number) / PROVENANCE_FILE).write_text(json.dumps(content))
    for number in (1, 2):
        found = read_provenance(run_dir, number)
        assert found is None or between_attempts(found, found) == ()


def test_everything_is_looked_at(tmp_path: Path) -> None:
    """The whole is gathered here and now: this interpreter's packages and version, machine and command."""
    command = ["train.py", "--seed", "3"]
    found = gather(command=command, cwd=tmp_path, interpreter=sys.executable, gpus=["H200"], clock=SYSTEM)
    assert found.packages
    assert found.python == sys.version.split()[0]
    assert (found.seeds, found.gpus, found.git) == ({"seed": "3"}, ("H200",), None)
    assert found.host
    program = gather(command=["./train.sh"], cwd=tmp_path, interpreter=None, gpus=(), clock=SYSTEM)
    assert (program.packages, program.python) == (None, "")
