"""What torch keeps for the whole process can be read, and set again to what was read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from backprop_core.script_state.process_settings import ProcessSettings
from backprop_core.script_state.state import ScriptState
from backprop_torch.framework import TorchFramework
from backprop_torch.process_settings import settings
from tests.backprop_core.script_state.graphs import through_a_file


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """The settings are as before each test."""
    before = settings()
    yield
    for setting in before.values():
        setting.put(setting.value)


def _set_some() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.autograd.set_detect_anomaly(True, check_nan=False)
    torch.backends.mkldnn.enabled = False
    torch.set_printoptions(precision=7, sci_mode=True)


def test_what_was_set_in_training_is_set_again() -> None:
    """Another process has every setting, and a number is printed as before."""
    before, state = settings(), ScriptState([ProcessSettings([TorchFramework()])])
    state.baseline()
    _set_some()
    then, saved = settings(), through_a_file(state.changed())
    looked = repr(torch.tensor(1 / 3, device="cpu"))
    for setting in before.values():
        setting.put(setting.value)
    later = ScriptState([ProcessSettings([TorchFramework()])])
    later.baseline()
    assert later.restore(saved).missing == []
    now = settings()
    assert {name: one.value for name, one in now.items()} == {name: one.value for name, one in then.items()}
    assert sum(now[name].value != before[name].value for name in now) >= 9
    assert torch.rand(2, device="cpu").dtype is torch.float64
    assert repr(torch.tensor(1 / 3, device="cpu")) == looked


def test_setting_what_is_set_changes_nothing() -> None:
    """Each setting takes its own value."""
    before = settings()
    for setting in before.values():
        setting.put(setting.value)
    assert {name: one.value for name, one in settings().items()} == {
        name: one.value for name, one in before.items()
    }
