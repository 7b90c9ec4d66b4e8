"""Programs beside Python that a few tests need. One that is missing fails its test with the line to type: nobody sees that a
test was skipped.
"""

from __future__ import annotations

import shutil

import pytest


def program(*names: str) -> str:
    """The path of the first of these programs that is there; else the test fails, and says how to install it."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(f"{names[0]} is not installed. Debian: apt-get install {names[0]}", pytrace=False)
    return found
