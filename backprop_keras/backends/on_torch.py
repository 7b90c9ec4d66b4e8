"""Keras on PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from backprop_core.prove.recorder import Recorder


def array(variable: Any) -> Any:
    tensor = variable.value.detach().cpu()
    if tensor.dtype is torch.bfloat16:  # numpy knows it through ml_dtypes, torch's bridge to numpy does not
        import ml_dtypes

        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def value(array: Any) -> Any:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    return np.array(array)


def attach(model: Any) -> None:
    """Variables are always up to date."""


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def wait(logs: Mapping[str, Any]) -> None:
    if _cuda_in_use():
        torch.cuda.synchronize()


def skip(arguments: tuple[Any, ...], batches: int) -> None:
    """The loop itself has fetched them already."""


def answer(arguments: tuple[Any, ...], logs: Mapping[str, Any]) -> Any:
    return dict(logs)


def randomness() -> Any:
    state: dict[str, Any] = {"cpu": torch.get_rng_state().numpy()}
    if _cuda_in_use():
        state["cuda"] = [one.cpu().numpy() for one in torch.cuda.get_rng_state_all()]
    return state


def set_randomness(state: Any) -> None:
    torch.set_rng_state(torch.from_numpy(np.array(state["cpu"])))
    cuda = state.get("cuda")
    if cuda is not None and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([torch.from_numpy(np.array(one)) for one in cuda])


def environment() -> Mapping[str, Any]:
    facts: dict[str, Any] = {
        "torch": str(torch.__version__),
        "torch_threads": torch.get_num_threads(),
        "torch_deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if torch.cuda.is_available():
        facts |= {"cuda": torch.version.cuda, "cuda_device": torch.cuda.get_device_name()}
    return facts


def refuse_nondeterminism() -> str:
    torch.use_deterministic_algorithms(True)
    return "torch.use_deterministic_algorithms(True)"


def noted(items: Any, recorder: Recorder) -> Any:
    return recorder.items(items)


def batch_specification(epoch_iterator: Any) -> Any:
    return None


def order_is_lost(epoch_iterator: Any) -> str:
    return ""
