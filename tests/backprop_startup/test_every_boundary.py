"""Unmodified scripts, cut at each boundary that their loops have and resumed: the bits of the uncut script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("shape", "every"),
    [
        pytest.param("evaluations", 4, marks=pytest.mark.long),
        pytest.param("made_models", 5, marks=pytest.mark.long),
        pytest.param("own_methods", 9, marks=pytest.mark.long),
        pytest.param("meters", 3, marks=pytest.mark.long),
        *(
            pytest.param(shape, 1, marks=pytest.mark.faults)
            for shape in (
                "evaluations",
                "meters",
                "accumulation",
                "kept_weights",
                "episodes",
                "made_models",
                "reordered",
                "own_methods",
                "stages",
                "rearranged",
                "population",
            )
        ),
    ],
)
def test_a_cut_at_any_boundary_changes_nothing(tmp_path: Path, shape: str, every: int) -> None:
    """Before a pass's first batch, between gradients, inside an evaluation: what is printed and saved is as uncut."""
    _check("boundary_shapes.py", shape, every, tmp_path)


@pytest.mark.parametrize(
    ("shape", "every"),
    [
        pytest.param("only_in_lists", 7, marks=pytest.mark.long),
        *(
            pytest.param(shape, 1, marks=pytest.mark.faults)
            for shape in (
                "aggregated", "all_trained", "all_trained_at_once", "appended_last", "boosted", "by_name", "by_round",
                "children", "globals", "in_methods", "in_one_method", "in_tuples", "inner_rounds", "only_in_lists",
                "ranked", "stacked", "wrapped",
            )
        ),
    ],
)  # fmt: skip
def test_what_lists_grow_by_is_made_again_by_its_round(tmp_path: Path, shape: str, every: int) -> None:
    """A model and its optimizer are made in each round, and kept: inside a round they are the script's own, not copies."""
    _check("growing_shapes.py", shape, every, tmp_path)


@pytest.mark.faults
def test_a_list_of_models_that_is_turned_around_inside_the_round_is_refused(tmp_path: Path) -> None:
    """Where the models of this round lie in other places than the round has put them, one sentence says what to do."""
    told = _told("growing_shapes.py", "turned_around", 1, tmp_path)
    assert told
    for line in told:
        assert "refused: " in line
        assert (
            "keep models and optimizers where it has put them until the round that makes them is over" in line
        )


@pytest.mark.parametrize(
    ("shape", "every"),
    [
        pytest.param("in_a_method", 12, marks=pytest.mark.long),
        *(
            pytest.param(shape, 1, marks=pytest.mark.faults)
            for shape in (
                "in_a_for_loop", "asked_with_next", "in_a_method", "a_queue", "one_thread_for_all", "futures",
                "futures_without_a_loader",
            )
        ),
    ],
)  # fmt: skip
def test_a_cut_changes_nothing_where_a_thread_reads_ahead(tmp_path: Path, shape: str, every: int) -> None:
    """Batches that a thread had made and nobody had trained come again as they were made, once, and in their order."""
    _check("read_ahead_shapes.py", shape, every, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "workers",
    [
        "2,goes,torch",
        pytest.param("3,stays,torch", marks=pytest.mark.faults),
        "2,stays,accelerate",
        pytest.param("3,goes,accelerate", marks=pytest.mark.faults),
    ],
)
def test_random_numbers_drawn_in_workers_go_on(tmp_path: Path, workers: str) -> None:
    """Whether the workers stay or go, in an epoch and between two: each batch has the bits of the uncut script."""
    _check("augmented_workers.py", workers, 6, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "how",
    [
        "goes,endless",
        "stays,changed",
        pytest.param("stays,endless", marks=pytest.mark.faults),
        pytest.param("goes,changed", marks=pytest.mark.faults),
    ],
)
def test_a_generator_around_a_loader_with_workers_goes_on(tmp_path: Path, how: str) -> None:
    """One that passes batches through begins by index, one that changes them reads them again: the bits are the same."""
    _check("endless_workers.py", how, 4, tmp_path)


def _check(program: str, shape: str, every: int, tmp_path: Path) -> None:
    assert _told(program, shape, every, tmp_path) == []


def _told(program: str, shape: str, every: int, tmp_path: Path) -> list[str]:
    words = [HERE / "every_boundary.py", HERE / program, shape, tmp_path, str(every)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKPROP_")}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("cut at", "backprop:"))]
