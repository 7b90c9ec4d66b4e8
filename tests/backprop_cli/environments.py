"""Environments with backprop and its own libraries in them, and no framework: as pip, pipx or uv would make them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LIBRARIES = ("click", "psutil", "xxhash", "rich", "pygments", "markdown_it", "mdurl", "pynvml")


def bare_environment(folder: Path) -> Path:
    """A virtual environment with nothing in it; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def base_install(folder: Path) -> Path:
    """An environment with backprop and what it needs, as `pip install backprop-timebox` leaves it; its interpreter."""
    interpreter = bare_environment(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in _LIBRARIES:
        spec = find_spec(name)
        assert spec is not None, name
        origin = Path(
            spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin or ""
        )
        (packages / origin.name).symlink_to(origin)
    about = Path(str(distribution("backprop-timebox").locate_file("backprop_timebox-0.1.0.dist-info")))
    (packages / about.name).symlink_to(about)
    (packages / "backprop.pth").write_text(f"{ROOT}\n")
    return interpreter
