"""What packages announce is read as `importlib.metadata` reads it."""

from __future__ import annotations

import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from backprop_core.announced import announced

TEXT = """
[console_scripts]
nothing = tests:none

[backprop.wanted]
second = package.module:Thing.inner [extra]
# a comment = of:nobody
first=os.path : join

[backprop.wanted_too]
third = package.other
"""


def install(place: Path, package: str, text: str = TEXT) -> Path:
    """Announce `text` in the name of `package`."""
    folder = place / f"{package}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(text)
    return place


@pytest.mark.parametrize(
    "group", ["backprop.frameworks", "backprop.sinks", "console_scripts", "backprop.none"]
)
def test_what_is_installed_here(group: str) -> None:
    """Of the packages of this environment it finds what the standard library finds."""
    theirs = sorted((point.name, point.value) for point in entry_points(group=group))
    assert sorted((entry.name, entry.value) for entry in announced(group)) == theirs


def test_one_group_of_one_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections, comments, spaces and extras are told apart; the entries come in the order of their names, and load."""
    monkeypatch.setattr(sys, "path", [str(install(tmp_path, "one"))])
    found = announced("backprop.wanted")
    assert [(entry.name, entry.value) for entry in found] == [
        ("first", "os.path : join"),
        ("second", "package.module:Thing.inner [extra]"),
    ]
    import os

    assert found[0].load() is os.path.join
    with pytest.raises(ImportError):
        found[1].load()


def test_the_first_of_two_copies_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout in front of an installation hides it, as for an import."""
    near = install(tmp_path / "near", "a_package", "[backprop.wanted]\nfirst = near:thing\n")
    far = install(tmp_path / "far", "A.Package", "[backprop.wanted]\nfirst = far:thing\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "absent"), str(near), str(far)])
    assert [entry.value for entry in announced("backprop.wanted")] == ["near:thing"]


def test_a_package_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the library can read is asked of the library."""
    install(tmp_path / "folder", "zipped")
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        for path in (tmp_path / "folder").rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path / "folder"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages.zip")])
    assert [entry.name for entry in announced("backprop.wanted")] == ["first", "second"]
