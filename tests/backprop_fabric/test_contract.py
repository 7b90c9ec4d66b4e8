"""What every adapter does, done by this one; what is proved stands in `backprop_core/testing/adapter_contract.py`."""

from __future__ import annotations

import pytest

from backprop_core.testing.adapter_contract import AdapterContract


@pytest.mark.long
class TestFabric(AdapterContract):
    faults_are_raised = True

    @classmethod
    def driver(cls) -> str:
        return "tests.backprop_fabric.contract_driver"
