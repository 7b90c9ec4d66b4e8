"""The home folder, good and bad. The tests may run as root, so bad places are bad for root too."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from backprop_core.errors import StoreError
from backprop_core.runs.home import backprop_home
from backprop_core.runs.store import RunStore
from backprop_core.testing.clock import FakeClock


def test_a_missing_home_is_made_private(tmp_path: Path) -> None:
    """A new home, parents included, is made with mode 0700."""
    home = backprop_home({"BACKPROP_HOME": str(tmp_path / "a" / "b")})
    assert home == tmp_path / "a" / "b"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A command that only looks leaves no folder behind, and finds no runs."""
    home = backprop_home({"BACKPROP_HOME": str(tmp_path / "none")}, write=False)
    assert not home.exists()
    store = RunStore(home, FakeClock())
    assert store.list() == []
    assert list(store.list_rows()) == []
    assert store.warnings == []


def test_the_default_is_below_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without BACKPROP_HOME, or with an empty one, it is ~/.backprop; '~' and relative paths are resolved."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert backprop_home({}) == tmp_path / ".backprop"
    assert backprop_home({"BACKPROP_HOME": ""}) == tmp_path / ".backprop"
    assert backprop_home({"BACKPROP_HOME": "~/x"}) == tmp_path / "x"
    assert backprop_home({"BACKPROP_HOME": "y"}) == tmp_path / "y"


def bad_places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "home",
        "broken link": tmp_path / "link",
        "loop": tmp_path / "loop",
        "cannot be made": Path("/proc/1/home"),
        "too long": tmp_path / ("x" * 300),
        "nul": Path("/tmp/a\0b"),
    }


@pytest.mark.parametrize(
    "kind", ["file", "below a file", "broken link", "loop", "cannot be made", "too long", "nul"]
)
def test_a_bad_place_is_a_sentence_with_a_way_out(kind: str, tmp_path: Path) -> None:
    """Each bad home is a StoreError that tells to set BACKPROP_HOME."""
    with pytest.raises(StoreError) as caught:
        backprop_home({"BACKPROP_HOME": str(bad_places(tmp_path)[kind])})
    assert "BACKPROP_HOME" in caught.value.hint


@pytest.mark.parametrize(("forbidden", "word"), [("W", "written"), ("R", "read")])
def test_access_that_is_denied_is_told(
    forbidden: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that may not be read or written is refused, as an unprivileged user would see it."""
    import os

    flag = getattr(os, f"{forbidden}_OK")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & flag)
    with pytest.raises(StoreError, match=f"cannot be {word}"):
        backprop_home({"BACKPROP_HOME": str(tmp_path)})


def test_a_read_only_file_system_is_told() -> None:
    """A real read-only place is refused for writing, also for root, and accepted for looking."""
    place = Path("/proc/sys/fs")
    with pytest.raises(StoreError):
        RunStore(backprop_home({"BACKPROP_HOME": str(place)}), FakeClock()).create(
            run_id="x", name=None, command=["a.py"], cwd="/", interpreter="python", options={}
        )
    assert backprop_home({"BACKPROP_HOME": str(place)}, write=False) == place
