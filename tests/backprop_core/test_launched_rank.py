"""The rank of a process, from what launchers put into the environment."""

from __future__ import annotations

import pytest

from backprop_core.launched_rank import is_first, launched_rank


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, None),
        ({"RANK": "0", "LOCAL_RANK": "0"}, 0),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, 1),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, 1000),
        ({"RANK": "none"}, None),
    ],
)
def test_every_launcher_is_understood(environ: dict[str, str], rank: int | None) -> None:
    """torchrun tells RANK, Lightning's launcher LOCAL_RANK, and that not to the first; no two are taken for one."""
    assert launched_rank(environ) == rank
    assert is_first(environ) == (rank in (None, 0))
