"""Takes the lengths of the files that a script writes at a checkpoint, and cuts the files back to them on a resume."""

from __future__ import annotations

import os

from backprop_core import contract
from backprop_core.own_line import print_line
from backprop_core.script_files.hidden import HiddenFiles, show_hidden
from backprop_core.script_files.journal import Journal
from backprop_core.script_files.opened import OpenedFiles
from backprop_core.script_files.scope import Scope
from backprop_core.script_files.set_aside import SetAside, ending_of, put_back

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from backprop_core.script_files.handles import Handles

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"PK\x03\x04", b"\x89HDF", b"SQLite format 3")
"""How files begin that cannot be written on from some length."""
_MOST_NAMED = 5


class ScriptFiles:
    """The files of one script, in one process.

    Args:
        folder: the run's folder for them; of several ranks each has its own.
        roots: folders that the script's files lie in.
        excluded: folders in them that are ours.
        resuming: an earlier attempt has left a checkpoint, so the script is on its way back to it.
        continues: there was an earlier attempt.
        hides: what training has written is hidden until training goes on. Not among ranks: another may have looked by then.

    Attributes:
        going_back: the place of the checkpoint has not been reached.
        counted: the loops of the script are counted, so it will be known when it is back.
    """

    def __init__(
        self,
        folder: str,
        roots: Sequence[str],
        excluded: Sequence[str],
        *,
        resuming: bool,
        continues: bool,
        hides: bool = True,
    ) -> None:
        self._folder = folder
        self._aside = SetAside(os.path.join(folder, "set-aside"))
        self._handles: Handles | None = None
        self._here = os.path.realpath(os.getcwd())
        self.going_back = resuming
        self._named_databases: set[str] = set()
        self.counted = False
        self._journal = Journal(os.path.join(folder, "appended.jsonl"))
        self._before = self._journal.read() if continues else {}
        self._trains = False
        self._hides = hides
        if continues:
            self._aside.put_back_leftovers()
            show_hidden(folder)
        if continues and not resuming:
            self._begin_anew()
        scope = Scope(roots, [*excluded, folder])
        self._hidden = HiddenFiles(folder, earlier=continues)
        if resuming and hides:
            self._hidden.hide(lambda path: scope.holds(path) and not scope.excludes_within(path))
        self._opened = OpenedFiles(scope, self._is_lost, self._is_appended, self._is_made)
        self._opened.listen()

    # -- what is heard ---------------------------------------------------------------------------------------------

    def _is_lost(self, path: str, in_place: bool) -> None:
        if self.going_back:
            self._aside.keep(path, in_place=in_place)
        if self._trains and not in_place:
            self._hidden.loses(path)

    def _is_made(self, path: str) -> None:
        if self._trains and self._hides:
            self._hidden.writes(path)

    def _is_appended(self, path: str, small: bool) -> None:
        self._journal.note(path, self._before)
        if self.going_back and small:
            self._aside.keep(path, in_place=True, may_grow=True)

    def writes(self, path: Any) -> None:
        """A library is about to write `path` anew, in C."""
        self._opened.heard("open", (path, None, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))

    def has_begun(self, path: str) -> None:
        """A library has just made `path`, in C, and will append to it."""
        if (made := self._opened.begun(path)) is not None:
            self._journal.note(made, self._before, -1)

    def training_begins(self) -> list[str]:
        """The first loop that trains is about to begin, or to be passed over: what was hidden is there again.

        Returns:
            The names of what was hidden.
        """
        hidden = [self._named(path) for path in self._hidden.names]
        self._show()
        self._trains = True
        return hidden

    def _show(self) -> None:
        with self._opened.ours():
            self._hidden.show()

    def _is_back(self) -> None:
        self.going_back = False
        self._show()

    # -- at a checkpoint -------------------------------------------------------------------------------------------

    def capture(self) -> dict[str, Any]:
        """How long the files are now that the script appends to, or holds open and writes from end to end."""
        handles, opened = self._found_handles(), self._opened
        self._name_databases()
        handles.flush_event_writers(opened.appended)
        paths = dict(opened.appended)
        for fd, path in handles.writing_into(opened.opens).items():
            if _can_be_cut(fd):
                paths[path] = None
        files = [one for path in paths if (one := self._description(path)) is not None]
        return {"files": files}

    def _name_databases(self) -> None:
        """Once, while what the script writes there can still be seen to."""
        for path in [path for path in self._opened.databases if path not in self._named_databases]:
            self._named_databases.add(path)
            print_line(
                f"{self._named(path)} is an SQLite database, which is not rewound: a resume writes the rows behind the "
                "checkpoint once more, and set-up code that empties it loses the earlier ones. Give each row a key, write "
                "with INSERT OR REPLACE, and empty it only in a first attempt ('backprop docs unmodified')."
            )

    def _found_handles(self) -> Handles:
        if self._handles is None:
            from backprop_core.script_files.handles import Handles

            self._handles = Handles()
        return self._handles

    def _description(self, path: str) -> list[Any] | None:
        try:
            with open(path, "rb") as file:
                length = os.fstat(file.fileno()).st_size
                return [self._named(path), length, ending_of(file, length)]
        except OSError:
            return None  # it is gone

    def _named(self, path: str) -> str:
        """A path below the working directory as one that is true where the folder was moved to, too."""
        below = os.path.join(self._here, "")
        return path[len(below) :] if path.startswith(below) else path

    # -- on a resume -----------------------------------------------------------------------------------------------

    def restore(self, saved: Mapping[str, Any] | None) -> list[str]:
        """Training goes on: each file holds what it held at the checkpoint, and open ones are written on from there.

        Args:
            saved: what `capture` gave; None where it was not asked: then nothing is cut.

        Returns:
            Sentences about what was cut off, and what could not be.
        """
        if not self.going_back:
            return []
        self._is_back()
        with self._opened.ours():
            return self._restored(saved)

    def _restored(self, saved: Mapping[str, Any] | None) -> list[str]:
        self._aside.forget_grown()
        opened, cut, said = self._opened, list[str](), list[str]()
        held = self._found_handles().writing_into(opened.opens)
        said += self._leave_compressed(set(held.values()))
        lengths = self._lengths(saved)
        for path in [*lengths, *(path for path in self._aside.kept if path not in lengths)]:
            try:
                length, ending = lengths.get(path, (None, None))
                problem = self._put_right(path, length, ending, cut)
            except OSError as error:
                problem = f"it could not be written: {error.strerror or error}"
            if problem:
                said.append(f"{self._named(path)} differs from the checkpoint: {problem}.")
        opened.appended.update(dict.fromkeys(self._before if saved is None else lengths))
        for fd, path in held.items():
            if path in lengths or path in self._aside.kept:
                self._found_handles().go_to_end(fd)
        said += [
            f"{self._named(p)} was overwritten during the resume: {why}."
            for p, why in self._aside.lost.items()
        ]
        self._aside.drop()
        return [*self._sentences(cut, "at the checkpoint"), *said]

    def _lengths(self, saved: Mapping[str, Any] | None) -> dict[str, tuple[int, str | None]]:
        """By path, to what length a file is cut, and how it ended there."""
        if saved is None:
            return {}
        lengths: dict[str, tuple[int, str | None]] = {
            os.path.join(self._here, name): (length, ending) for name, length, ending in saved["files"]
        }
        for path, length in self._before.items():  # appended to since then, for the first time
            if path not in lengths and (path in self._aside.kept or path not in self._opened.opens):
                lengths[path] = (length, None)
        return lengths

    def _leave_compressed(self, held: set[str]) -> list[str]:
        """A compressed file that has been opened anew: what it held is no beginning for what comes now."""
        said = []
        for path in [path for path in self._aside.kept if path in held]:
            if _is_compressed(copy := self._aside.kept[path]):
                self._keep_rest(copy, path, 0)
                del self._aside.kept[path]
                said.append(
                    f"{self._named(path)} is compressed and cannot be continued from the middle: it starts empty, and its "
                    f"old content is in {self._cut_folder}."
                )
        return said

    def _put_right(self, path: str, length: int | None, ending: str | None, cut: list[str]) -> str:
        """What is wrong with the file, as half a sentence, or nothing."""
        copy = self._aside.kept.get(path)
        source = copy or path
        there = os.path.getsize(source) if os.path.exists(source) else -1
        problem = ""
        if (
            length is not None
            and there > length >= 0
            and ending is not None
            and not _ends_so(source, length, ending)
        ):
            problem, length = "something has rewritten it since", None
        elif length is not None and there < length:
            if ending is not None:
                problem = "it is gone" if there < 0 else "it is shorter now"
            length = None
        if length is not None and there > max(length, 0):
            self._keep_rest(source, path, length)
            cut.append(path)
        if copy is not None:
            put_back(copy, path, None if length is None else max(length, 0))
        elif length is not None and there > length:
            if length < 0:
                os.remove(path)
            else:
                os.truncate(path, length)
        return problem

    def _keep_rest(self, source: str, path: str, length: int) -> None:
        """Nothing that was ever written is lost: what is cut off lies in the run's folder."""
        folder = self._cut_folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        name = self._named(path).replace(os.sep, "_")[-150:]
        with open(source, "rb") as file, open(os.path.join(folder, name), "ab") as rest:
            file.seek(max(length, 0))
            while block := file.read(1 << 20):
                rest.write(block)

    @property
    def _cut_folder(self) -> str:
        return os.path.join(self._folder, f"cut-{os.environ.get(contract.ATTEMPT, '0')}")

    def _sentences(self, cut: list[str], where: str) -> list[str]:
        if not cut:
            return []
        names = [self._named(path) for path in cut[:_MOST_NAMED]]
        more = f" and {len(cut) - _MOST_NAMED} more" if len(cut) > _MOST_NAMED else ""
        sentence = (
            f"Rewound to their state {where}: {', '.join(names)}{more}. The removed parts are in {self._cut_folder}; "
            "--keep-files leaves files as they are."
        )
        return [sentence]

    def _begin_anew(self) -> None:
        """The earlier attempts have saved nothing: what they appended is cut off before the script begins again."""
        cut: list[str] = []
        for path, length in self._before.items():
            try:
                self._put_right(path, length, None, cut)
            except OSError:
                continue
        for sentence in self._sentences(cut, "before the run"):
            print_line(sentence)

    # -- where training does not go on -----------------------------------------------------------------------------

    def starts_anew(self) -> None:
        """There is no checkpoint to go back to, or nobody leads the script to it: its files are its own business."""
        if self.going_back:
            self._is_back()
            self._aside.drop()

    def goes_back(self) -> None:
        """The script ends before its place was found: its files are as they were when it began."""
        if self.going_back:
            self._is_back()
            with self._opened.ours():
                self._aside.put_all_back()

    def session_opens(self) -> None:
        """A session opens in this process; where its loops are not counted, nobody will tell when it is back."""
        if not self.counted:
            self.starts_anew()


def _ends_so(path: str, length: int, ending: str) -> bool:
    with open(path, "rb") as file:
        return ending_of(file, length) == ending


def _can_be_cut(fd: int) -> bool:
    from backprop_core.script_files.handles import is_at_end

    return is_at_end(fd, os.fstat(fd).st_size) and not _is_compressed(f"/proc/self/fd/{fd}")


def _is_compressed(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(16).startswith(_COMPRESSED)
    except OSError:
        return False
