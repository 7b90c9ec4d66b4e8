"""`python -m tests.versions`: the oldest and the newest version of each framework that pyproject.toml allows and pip finds.

Each gets a folder of its own in `.versions/`, in front of the packages of this environment, and one training in it: whole,
and cut and resumed, with the same weights. `--all`: and the adapter's behaviour. `--quick`: the oldest alone, for CI.
torch is this environment's: what pip finds of other versions brings CUDA along, gigabytes for each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".versions"
OF_FRAMEWORK = {
    "lightning": ["pytorch-lightning"],
    "keras": ["keras"],
    "transformers": ["transformers", "accelerate"],
}
BESIDES = {"transformers": ["httpx"]}
"""What an older one imports that the packages of this environment no longer bring along."""
BEHAVIOUR = {
    "lightning": ["tests/backprop_lightning/test_behaviour.py", "tests/backprop_lightning/test_other_versions.py"],
    "keras": ["tests/backprop_keras/test_behaviour.py", "tests/backprop_keras/test_other_versions.py"],
    "transformers": [
        "tests/backprop_transformers/test_behaviour.py",
        "tests/backprop_transformers/test_other_versions.py",
    ],
}  # fmt: skip


def allowed(package: str) -> tuple[str, str]:
    """The oldest and the newest version in the range of pyproject.toml."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needs = [need for name, group in extras.items() if name != "dev" for need in group]
    need = next(need for need in needs if re.match(rf"{package}\W", need))
    lines = pip("index", "versions", package).splitlines()
    found = (
        next(line for line in lines if line.startswith("Available versions:")).partition(":")[2].split(",")
    )
    within = sorted(Requirement(need).specifier.filter(Version(one.strip()) for one in found))
    return str(within[0]), str(within[-1])


def pip(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"pip {' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def environment(packages: dict[str, str]) -> dict[str, str]:
    """These versions in front of this environment's packages, installed once."""
    folder = FOLDER / "-".join(f"{name}-{number}" for name, number in packages.items())
    if not (folder / ".ready").exists():
        print(
            f"installing {', '.join(f'{name} {number}' for name, number in packages.items())} ...", flush=True
        )
        wanted = [f"{name}=={number}" for name, number in packages.items()]
        if "pytorch-lightning" in packages:  # whoever imports the other name gets the same version
            wanted.append(f"lightning=={packages['pytorch-lightning']}")
        pip("install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder), *wanted)
        if lacking := unsatisfied(folder):
            pip("install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder), *lacking)
        for besides in (one for name in packages for one in BESIDES.get(name, ())):
            pip("install", "--quiet", "--upgrade", "--target", str(folder), besides)
        (folder / ".ready").touch()
    own = {name: value for name, value in os.environ.items() if not name.startswith("BACKPROP_")}
    return own | {"PYTHONPATH": str(folder), "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}


def unsatisfied(folder: Path) -> list[str]:
    """What the packages in `folder` ask for and this environment has in another version, or not at all; never torch."""
    needs = [
        Requirement(text) for one in Distribution.discover(path=[str(folder)]) for text in one.requires or ()
    ]
    lacking = []
    for need in needs:
        if need.name in ("torch", "lightning") or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        try:
            fits = need.specifier.contains(version(need.name), prereleases=True)
        except PackageNotFoundError:
            fits = False
        if not fits:
            lacking.append(f"{need.name}{need.specifier}")
    return lacking


def judged(framework: str, packages: dict[str, str], environ: dict[str, str]) -> tuple[bool, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.versions.cut_and_resumed", framework],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return False, done.stderr.strip().splitlines()[-1]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if told["versions"] != packages:
        return False, f"this is {told['versions']}"
    if "refused" in told:
        return False, told["refused"]
    good = told["same"] and told["outcomes"] == ["stopped", "completed"]
    return good, "cut, resumed, the same weights" if good else json.dumps(told)


def main() -> int:
    bounds = {package: allowed(package) for names in OF_FRAMEWORK.values() for package in names}
    bad = 0
    for framework, names in OF_FRAMEWORK.items():
        for which in (0,) if "--quick" in sys.argv else (0, 1):
            packages = {name: bounds[name][which] for name in names}
            environ = environment(packages)
            good, words = judged(framework, packages, environ)
            if good and "--all" in sys.argv:
                tests = [sys.executable, "-m", "pytest", "-q", "-m", "not faults", *BEHAVIOUR[framework]]
                good = subprocess.run(tests, cwd=ROOT, env=environ, check=False).returncode == 0
            bad += not good
            shown = ", ".join(f"{name} {number}" for name, number in packages.items())
            print(f"{'ok ' if good else 'BAD'} {('oldest', 'newest')[which]} {shown}: {words}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
