"""What of Keras may change under us: one renamed name, or one fault of our own, never ends a script."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backprop_keras.cutting import environment
from tests.other_versions import assert_left_alone, assert_stepped_aside, told_by

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All trainings, from one process."""
    return told_by(
        "tests.backprop_keras.renamed_names", environment("torch", tmp_path_factory.mktemp("renamed"))
    )


def test_a_renamed_name_leaves_the_script_alone(told: dict[str, Any]) -> None:
    """For each name that is declared the training ends as without us, and one line says what is missing."""
    names = [name for name in told if "." not in name]
    assert len(names) > 15
    for name in names:
        assert_left_alone(told[name], name)


def test_a_fault_of_ours_leaves_the_script_alone(told: dict[str, Any]) -> None:
    """Wherever it comes, the training ends with the weights it has without us, and one line says that we are gone."""
    assert_stepped_aside(told, [name for name in told if "." not in name], "keras")
