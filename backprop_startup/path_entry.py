"""The folder that the governor puts in front of a script's import path, so that Python runs our `sitecustomize` at start."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

FOLDER = str(Path(__file__).parent / "path")


def put_in_front(environ: MutableMapping[str, str]) -> None:
    """Let every Python that is started with `environ` run our start-up hook. Nothing is written anywhere."""
    others = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != FOLDER]
    environ["PYTHONPATH"] = os.pathsep.join([FOLDER, *others])
