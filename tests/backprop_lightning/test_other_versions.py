"""What of Lightning may change under us: one renamed name, or one fault of our own, never ends a script."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backprop_lightning.renamed_names import DECLARED
from tests.backprop_torch.cutting import environment
from tests.other_versions import assert_left_alone, assert_stepped_aside, told_by

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All trainings, from one process."""
    return told_by("tests.backprop_lightning.renamed_names", environment(tmp_path_factory.mktemp("renamed")))


@pytest.mark.parametrize("name", DECLARED)
def test_a_renamed_name_leaves_the_script_alone(told: dict[str, Any], name: str) -> None:
    """The training ends with the weights it has without us, and one line says what is missing."""
    assert_left_alone(told[name], name)


def test_a_fault_of_ours_leaves_the_script_alone(told: dict[str, Any]) -> None:
    """Wherever it comes, the training ends with the weights it has without us, and one line says that we are gone."""
    assert_stepped_aside(told, DECLARED, "lightning")
