"""What every adapter does, done by this one; what is proved stands in `backprop_core/testing/adapter_contract.py`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from backprop_core.testing.adapter_contract import AdapterContract


@pytest.mark.long
class TestOnTorch(AdapterContract):
    backend = "torch"

    @classmethod
    def driver(cls) -> str:
        return "tests.backprop_keras.contract_driver"

    @classmethod
    def environment(cls) -> Mapping[str, str]:
        return {"KERAS_BACKEND": cls.backend, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.mark.faults
class TestOnJax(TestOnTorch):
    backend = "jax"


@pytest.mark.faults
class TestOnTensorFlow(TestOnTorch):
    backend = "tensorflow"
