"""All of a release but the upload: checks, builds twice, tries the wheel, writes notes and digests into `dist/`.

Run by `make release`. It changes nothing outside of `dist/` and uploads nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def main() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    troubles = list(unready(version))
    if troubles:
        sys.exit("Not ready for a release:\n" + "\n".join(f"- {trouble}" for trouble in troubles))
    shutil.rmtree(DIST, ignore_errors=True)
    build(DIST)
    with tempfile.TemporaryDirectory() as again:
        build(Path(again))
        if digests(Path(again)) != digests(DIST):
            sys.exit("Two builds gave different bytes.")
    tried = [sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(DIST.iterdir()))]
    subprocess.run(tried, check=True)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "faults", "tests/test_distribution.py"], cwd=ROOT, check=True
    )
    files = sorted(DIST.iterdir())
    (DIST / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in digests(DIST).items()))
    (DIST / "RELEASE_NOTES.md").write_text(notes(version))
    print(f"\nVersion {version} is in {DIST.relative_to(ROOT)}/. What is left is yours:\n")
    print(f"  git tag -s v{version} -F dist/RELEASE_NOTES.md && git push origin v{version}")
    print(f"  python -m twine upload {' '.join(f'dist/{file.name}' for file in files)}")


def unready(version: str) -> list[str]:
    """What stands in the way, one sentence each."""
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found = ["There are changes that are not committed."] if changed else []
    places = {
        "backprop_core/__init__.py": f'__version__ = "{version}"',
        "CITATION.cff": f"version: {version}",
        "packaging/conda/meta.yaml": f'set version = "{version}"',
    }
    found += [
        f"{place} has another version than pyproject.toml ({version})."
        for place, words in places.items()
        if words not in (ROOT / place).read_text()
    ]
    if not notes(version):
        found.append(f'CHANGELOG.md has no section "## {version}": rename "Unreleased", and begin a new one.')
    return found


def notes(version: str) -> str:
    """The changelog's section of this version, without its heading; empty where there is none."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(
        rf"^## {re.escape(version)}\b.*?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    return found[1].strip() + "\n" if found else ""


def build(target: Path) -> None:
    """Wheel and source distribution, dated by the commit."""
    dated = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, env={**os.environ, "SOURCE_DATE_EPOCH": dated}, check=True, capture_output=True)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in (".whl", ".gz")
    }


if __name__ == "__main__":
    main()
