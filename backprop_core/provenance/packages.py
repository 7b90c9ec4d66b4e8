"""Which packages an interpreter can import, told by the names of their metadata folders: what `pip freeze` lists, in a
thousandth of its time.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.provenance.bounded_output import printed_by
from backprop_core.strict_json import as_texts, decode

MOST_PACKAGES = 5000
_METADATA = re.compile(r"([A-Za-z0-9][A-Za-z0-9._]*)-([^-]+)(?:-py[^-]*)?\.(?:dist-info|egg-info)")
_PATIENCE_S = 3.0
_MOST_BYTES = 64 * 1024


def packages_on(places: Iterable[str]) -> dict[str, str]:
    """Version by name of what is installed in the folders of an import path; of two the first counts, as for an import."""
    found: dict[str, str] = {}
    for place in places:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208 - hundreds of names, no need of Path objects
        except OSError:
            continue
        for name in names:
            told = _METADATA.fullmatch(name)
            if told is not None and len(found) < MOST_PACKAGES:
                found.setdefault(_normal(told[1]), told[2])
    return dict(sorted(found.items()))


def packages_of(interpreter: str, cwd: Path, clock: Clock) -> Mapping[str, str] | None:
    """The packages of an interpreter: of this one at once, another is asked where it looks. None where it cannot tell."""
    if _same(interpreter, sys.executable):
        return packages_on(sys.path)
    told = printed_by(
        (interpreter, "-c", "import json, sys; print(json.dumps(sys.path))"),
        cwd,
        os.environ,
        most_bytes=_MOST_BYTES,
        deadline=clock.monotonic() + _PATIENCE_S,
        clock=clock,
    )
    try:
        places = as_texts(decode(told.data))
    except ValueError:
        return None
    return None if places is None else packages_on(places)


def frozen(packages: Mapping[str, str]) -> str:
    """The packages as a requirements file."""
    return "".join(f"{name}=={version}\n" for name, version in packages.items())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(one: str, other: str) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)  # noqa: PTH100 - a link may be another environment
