"""(g) Hostile folders: refused quickly, in bounded memory, and nothing in them is executed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.errors import CheckpointDamagedError
from backprop_core.testing.checkpoint_places import BLOBS
from backprop_core.testing.clock import FakeClock

from .forging import forge, forge_all
from .tracing import ROOT

READER = """
import json, os, resource, sys, time
from pathlib import Path
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.errors import BackpropError
from backprop_core.testing.checkpoint_places import BLOBS, blobs
from backprop_core.testing.clock import FakeClock
from tests.faults.saving import facts, warm_up
import numpy

translators = (*BLOBS, NumpyTranslator())
warm_up()
os.chdir(sys.argv[2])
ran = []
FORBIDDEN = ("exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class", "os.mkdir", "os.exec", "socket")
sys.addaudithook(lambda event, args: ran.append(event) if event.startswith(FORBIDDEN) else None)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
limit = 1024 * int(Path("/proc/self/statm").read_text().split()[0]) * 4 + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
results = {}
for name, folder in json.loads(Path(sys.argv[1]).read_text()).items():
    started = time.monotonic()
    try:
        CheckpointStore(Path(folder).parent, clock=FakeClock()).load(Path(folder), translators)
        result = "loaded"
    except BackpropError as error:
        result = type(error).__name__ + ": " + str(error)
    except BaseException as error:
        result = "UNFORESEEN " + type(error).__name__ + ": " + str(error)[:300]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) * 1024
    results[name] = [result, time.monotonic() - started, grown, ran[:]]
    ran.clear()
print(json.dumps(results))
"""


def test_hostile_folders_are_refused(tmp_path: Path) -> None:
    """Each hostile folder, all its digests right, is called damaged in under five seconds and 300 MB; none runs."""
    folders = forge_all(tmp_path / "forged")
    listing = tmp_path / "folders.json"
    listing.write_text(json.dumps({name: str(folder) for name, folder in folders.items()}))
    (tmp_path / "cwd").mkdir()
    program = [sys.executable, "-c", READER, str(listing), str(tmp_path / "cwd")]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    assert set(results) == set(folders)
    for name, (result, seconds, grown, ran) in results.items():
        assert result.startswith("CheckpointDamagedError: "), (name, result)
        assert len(result) < 1000, (name, result)
        assert seconds < 5, (name, seconds)
        assert grown < 300_000_000, (name, grown)
        assert ran == [], (name, ran)
    assert list((tmp_path / "cwd").iterdir()) == []


def test_the_forger_makes_folders_that_would_load(tmp_path: Path) -> None:
    """Without a hostile idea the forged folder is a whole checkpoint: the refusals above are for the right reason."""
    store = CheckpointStore(tmp_path, clock=FakeClock())
    states = store.load(forge(tmp_path / "step-000000000001"), BLOBS).states
    assert states["model"]["w"].data == b"abcd"  # type: ignore[index]


def test_a_linked_checkpoint_folder_is_not_a_candidate(tmp_path: Path) -> None:
    """A link that looks like a checkpoint is neither listed nor restored nor moved."""
    forge(tmp_path / "step-000000000005")
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "step-000000000009").symlink_to(tmp_path / "step-000000000005")
    store = CheckpointStore(directory, clock=FakeClock())
    assert store.list() == []
    assert store.load_newest(BLOBS, told=pytest.fail) is None
    assert (directory / "step-000000000009").is_symlink()


def test_a_tree_of_empty_lists_stays_in_bounds(tmp_path: Path) -> None:
    """JSON that takes thirty times its size when parsed is limited by its size on the disk."""
    tree = tmp_path / "step-000000000001"
    forge(tree, change=lambda manifest: manifest["files"]["model.json"].__setitem__("bytes", 1 << 30))
    with pytest.raises(CheckpointDamagedError, match="claims 1073741824 bytes of JSON"):
        CheckpointStore(tmp_path, clock=FakeClock()).load(tree, BLOBS)
