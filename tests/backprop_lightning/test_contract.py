"""What every adapter does, done by this one; what is proved stands in `backprop_core/testing/adapter_contract.py`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from backprop_core.testing.adapter_contract import AdapterContract


@pytest.mark.long
class TestLightning(AdapterContract):
    package = "lightning.pytorch"

    @classmethod
    def driver(cls) -> str:
        return "tests.backprop_lightning.contract_driver"

    @classmethod
    def environment(cls) -> Mapping[str, str]:
        return {"LIGHTNING_PACKAGE": cls.package}


@pytest.mark.faults
class TestPytorchLightning(TestLightning):
    package = "pytorch_lightning"
