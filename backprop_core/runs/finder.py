"""Finding runs: everything about the store that only looks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from backprop_core.errors import RunNotFoundError, StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs import experiments
from backprop_core.runs.attempt import attempt_dir
from backprop_core.runs.hold import holder_of
from backprop_core.runs.identifiers import is_run_id, valid_run_id
from backprop_core.runs.listing import RunRow, list_rows, run_names
from backprop_core.runs.liveness import observed
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.rebuild import is_run_folder, load_record
from backprop_core.runs.record import RunRecord


class RunFinder:
    """The runs of one home folder, read only.

    `warnings` collects sentences about what was damaged and passed over; whoever shows them may empty it.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.warnings: list[str] = []
        self._rebuilt: set[str] = set()
        """Runs whose damaged record was told of, and is put right when it is next written."""

    def load(self, run_id_or_prefix: str) -> RunRecord:
        """The run of this id, or of the only id that begins so; LOST where its processes are gone.

        Raises:
            RunNotFoundError: none, or several; says which were meant perhaps.
            StoreError: its record cannot be read. One that is damaged is rebuilt, with a warning.
        """
        if is_run_id(run_id_or_prefix):
            with contextlib.suppress(FileNotFoundError):
                return self._observed(run_id_or_prefix)
        foreign = {
            key: entry
            for key, entry in experiments.read_index(self.home).entries.items()
            if not self._is_own(key)
        }
        if run_id_or_prefix in foreign:
            return experiments.foreign_record(run_id_or_prefix, foreign[run_id_or_prefix])
        found = self._only(run_id_or_prefix, [*run_names(self.home), *foreign])
        return (
            experiments.foreign_record(found, foreign[found]) if found in foreign else self._observed(found)
        )

    def list(self) -> list[RunRecord]:
        """All runs with their attempts, newest first; reads every record. One that cannot be read becomes a warning."""
        records = []
        for name in run_names(self.home):
            try:
                records.append(self._observed(name))
            except FileNotFoundError:
                continue  # being made just now, or cut off while it was
            except StoreError as error:
                self.warnings.append(str(error))
        for key, entry in experiments.read_index(self.home).entries.items():
            if not self._is_own(key):
                records.append(experiments.foreign_record(key, entry))
        return sorted(records, key=lambda record: (record.created_wall, record.id), reverse=True)

    def list_rows(self) -> Sequence[RunRow]:
        """All runs as rows of a table, newest first: as `list`, without the attempts, and fast for
        thousands.
        """
        return list_rows(self.home, self.warnings.append)

    def run_dir(self, run_id: str) -> Path:
        """The folder of a run, whether it exists or not. UsageError if `run_id` cannot be one."""
        return self.home / "runs" / valid_run_id(run_id)

    def attempt_dir(self, run_id: str, number: int) -> Path:
        """The folder of an attempt, for its events, its output and `send_control`."""
        return attempt_dir(self.run_dir(run_id), number)

    def holder(self, record: RunRecord) -> ProcessIdentity | None:
        """The process of this machine that holds a run of which no attempt goes on: it waits for resources, or rests
        between two boxes.
        """
        attempt = record.last_attempt
        if attempt is not None and (attempt.outcome is Outcome.RUNNING or attempt.governor is None):
            return None  # without a governor it is a training that is about to let go of the run
        holder = holder_of(self.run_dir(record.id)) if is_run_id(record.id) else None
        return holder if holder is not None and holder.alive() else None

    def checkpoints_dir(self, record: RunRecord) -> Path:
        """The folder of the run's checkpoints: the one that was asked for, else its own, also where they go elsewhere."""
        if record.checkpoint_dir is None or "://" in record.checkpoint_dir:
            return self.run_dir(record.id) / "checkpoints"
        return Path(record.cwd, record.checkpoint_dir)

    def checkpoints_place(self, record: RunRecord) -> str:
        """Where the run's checkpoints go: a folder, or the address of an object store."""
        if record.checkpoint_dir is not None and "://" in record.checkpoint_dir:
            return record.checkpoint_dir
        return str(self.checkpoints_dir(record))

    def _read(self, run_id: str) -> RunRecord:
        def told(sentence: str) -> None:
            if run_id not in self._rebuilt:
                self._rebuilt.add(run_id)
                self.warnings.append(sentence)

        return load_record(
            self.run_dir(run_id), run_id, told, lambda: experiments.indexed_record(self.home, run_id)
        )

    def _observed(self, run_id: str) -> RunRecord:
        return observed(self._read(run_id), self.run_dir(run_id))

    def _is_own(self, key: str) -> bool:
        return is_run_id(key) and is_run_folder(self.home / "runs" / key)

    def _only(self, prefix: str, known: Iterable[str]) -> str:
        names = sorted(known)
        found = [name for name in names if prefix and name.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            raise RunNotFoundError(f"{prefix!r} matches {len(found)} runs: {shown}.", "Give more of the id.")
        raise self._not_found(prefix, names)

    def _not_found(self, run_id: str, known: Iterable[str]) -> RunNotFoundError:
        import difflib

        near = difflib.get_close_matches(run_id[:80], list(known), n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "'backprop list' shows all runs."
        return RunNotFoundError(f"There is no run {run_id[:80]!r} in {self.home}.", hint)
