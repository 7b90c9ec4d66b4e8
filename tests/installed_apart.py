"""Packages that a long test needs and `make test` does not: each in a folder of its own in `.versions/`, installed once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".versions"


def installed_apart(package: str) -> str:
    """The PYTHONPATH with which `package`, and what it needs, is found in front of this environment's packages."""
    folder = FOLDER / f"apart-{package}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".ready").exists():
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            done = subprocess.run(
                [*command, "--upgrade", "--target", str(folder), package],
                capture_output=True,
                text=True,
                check=False,
                start_new_session=True,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / ".ready").touch()
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
