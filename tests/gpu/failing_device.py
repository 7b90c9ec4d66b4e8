"""A training whose device fails in a chosen step. Each value of its state is the number of steps that it has made.

Arguments: the device, and how it ends in which step: "illegal" (an illegal memory access), "assert" (a device-side
assertion), "abort" (the process alone, for trying this without a GPU).
"""

import os
import sys
import time

import torch

import backprop

DEVICE, HOW, AT = sys.argv[1], sys.argv[2], int(sys.argv[3])
WILD = 'extern "C" __global__ void wild(float* place) { place[1ULL << 46] = 1.0f; }'


class Model:
    """Tensors on the device, small ones and one of 8 MB."""

    def __init__(self) -> None:
        self.tensors = [torch.zeros(size, device=DEVICE) for size in (3, 1000, 2_000_000)]

    def step(self) -> None:
        for tensor in self.tensors:
            tensor.add_(1)

    def state_dict(self) -> dict[str, object]:
        return {str(number): tensor for number, tensor in enumerate(self.tensors)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        for number, tensor in enumerate(self.tensors):
            tensor.copy_(state[str(number)])


def fail(model: Model) -> None:
    if HOW == "abort":
        os.abort()
    if HOW == "assert":
        model.tensors[0][torch.tensor([10], device=DEVICE)]
    else:
        kernel = torch.cuda._compile_kernel(WILD, "wild")
        kernel((1, 1, 1), (1, 1, 1), (model.tensors[0],))
    torch.cuda.synchronize()


def main() -> None:
    model = Model()
    with backprop.timebox(model=model) as box:
        for step in box.steps(100_000):
            print("step", step, flush=True)
            time.sleep(0.02)
            model.step()
            if step == AT:
                fail(model)


if __name__ == "__main__":
    main()
