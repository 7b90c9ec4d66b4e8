"""Hides what only training has written until training goes on.

Many scripts go on from their own `last.pt` if it is there. On the way back to our checkpoint they would do so as well, and
the loop that is to go on in its middle would be another one: `range(start, epochs)` from another start. When the run began
there was no such file, so the code before the loop is to find none. A hidden file lies in the run's folder or, where that is
on another disk, beside its place under a name that begins with a dot. If the process dies before training goes on, whoever
comes next puts it back: the next attempt, or the governor.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from collections.abc import Callable

_MADE, _HIDDEN, _FOLDER = "made.jsonl", "hidden.jsonl", "hidden"
_ENDING = ".backprop-hidden"
_MOST = 1_000


class HiddenFiles:
    """The files and folders that the training of a run has made.

    Args:
        folder: the run's folder for a script's files.
        earlier: there was an attempt before this one.

    Attributes:
        names: those that are hidden now.
    """

    def __init__(self, folder: str, *, earlier: bool) -> None:
        self._folder = folder
        made = _read(os.path.join(folder, _MADE)) if earlier else []
        self._made = [path for path, _ in made]
        self._not_made: set[str] = set()
        self.names: list[str] = []

    def writes(self, path: str) -> None:
        """Training is about to write `path`, or to make this folder."""
        if (
            len(self._made) < _MOST
            and path not in self._not_made
            and not os.path.lexists(path)
            and not self._is_within_made(path)
        ):
            self._made.append(path)
            _note(self._folder, _MADE, path)

    def loses(self, path: str) -> None:
        """Training is about to remove `path`: it was there before, unless training has made it."""
        if not self._is_within_made(path) and os.path.lexists(path):
            self._not_made.add(path)

    def _is_within_made(self, path: str) -> bool:
        return any(path == made or path.startswith(os.path.join(made, "")) for made in self._made)

    def hide(self, may_go: Callable[[str], bool]) -> None:
        """Take what was made out of the way.

        Args:
            may_go: whether a path is still the script's.
        """
        for number, path in enumerate(self._made):
            if may_go(path) and os.path.lexists(path):
                for target in (_in_run(self._folder, number, path), _beside(path)):
                    if not os.path.lexists(target) and self._moved(path, target):
                        self.names.append(path)
                        break

    def _moved(self, path: str, target: str) -> bool:
        """False, and nothing done: it lies on another disk, or in a folder that may not be written."""
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            _note(self._folder, _HIDDEN, path, target)
            os.rename(path, target)
        except OSError:
            return False
        return True

    def show(self) -> None:
        """Everything is in its place again; what the script has made there meanwhile gets what was in it."""
        if self.names:
            show_hidden(self._folder)
            self.names = []


def show_hidden(folder: str) -> bool:
    """Put back what an attempt has hidden that did not come to its training. Never raises for a file that is gone.

    Args:
        folder: the run's folder for a script's files.

    Returns:
        Whether nothing is hidden any more.
    """
    notes = _read(os.path.join(folder, _HIDDEN))
    stay = False
    for path, target in notes:
        if target != _beside(path) and os.path.dirname(target) != os.path.join(folder, _FOLDER):
            continue  # nobody but a forger writes that
        try:
            _show(target, path)
        except OSError:
            stay = True  # the next one tries again
    index = os.path.join(folder, _HIDDEN)
    if not stay and os.path.exists(index):  # half a line alone, too: the next note would follow it
        os.remove(index)
    return not stay


def show_hidden_of(run_dir: str) -> bool:
    """The same for a whole run, from outside."""
    return show_hidden(os.path.join(run_dir, "files"))


def _show(hidden: str, path: str) -> None:
    if not os.path.lexists(hidden):
        return
    if not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.rename(hidden, path)
    elif os.path.isdir(hidden) and not os.path.islink(hidden) and os.path.isdir(path):
        for name in os.listdir(hidden):
            _show(os.path.join(hidden, name), os.path.join(path, name))
        os.rmdir(hidden)
    elif os.path.isfile(hidden) and os.path.isfile(path) and not os.path.islink(hidden):
        from backprop_core.script_files.set_aside import put_back

        put_back(hidden, path)  # the script may hold open what it has made
        os.remove(hidden)
    else:
        os.replace(hidden, path)


def _beside(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{_ENDING}")


def _in_run(folder: str, number: int, path: str) -> str:
    return os.path.join(folder, _FOLDER, f"{number}-{os.path.basename(path)[-100:]}")


def _note(folder: str, file: str, path: str, target: str = "") -> None:
    import json

    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, file), "a", encoding="ascii") as notes:
        notes.write(json.dumps({"path": path, "at": target}) + "\n")


def _read(file: str) -> list[tuple[str, str]]:
    """Paths, each once with where it lies, in the order in which they were noted."""
    import json

    found: dict[tuple[str, str], None] = {}
    try:
        with open(file, encoding="ascii") as notes:
            lines = notes.read().splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            note = json.loads(line)
            path, target = note["path"], note["at"]
        except (ValueError, KeyError, TypeError):
            continue  # torn by a kill
        if isinstance(path, str) and isinstance(target, str) and os.path.isabs(path):
            found[path, target] = None
    return list(found)
