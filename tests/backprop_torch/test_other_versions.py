"""What of PyTorch may change under us: one renamed name never ends a script."""

from __future__ import annotations

import pytest

from tests.backprop_torch.cutting import environment
from tests.other_versions import assert_left_alone, told_by


def test_a_renamed_name_leaves_the_script_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For each name that is declared the loop ends as without us, and one line says what is missing."""
    told = told_by("tests.backprop_torch.renamed_names", environment(tmp_path_factory.mktemp("renamed")))
    assert len(told) > 8
    for name, one in told.items():
        assert_left_alone(one, name)
