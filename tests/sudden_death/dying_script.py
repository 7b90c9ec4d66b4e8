"""A training that dies at a chosen moment of a chosen signal. Each value of its state is the number of steps it has made.

Arguments: the signal, the step after which it dies, seconds later than that, bytes of the state, seconds a step, steps.
"BOTH" is SIGKILL for the governor and for itself. It dies in the first `DYING_ATTEMPTS` attempts.
"""

import os
import signal
import sys
import threading
import time

import numpy as np

import backprop

HOW, AFTER, LATER_S, NBYTES, STEP_S = sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:6])
STEPS = int(sys.argv[6]) if len(sys.argv) > 6 else 1_000_000


class Model:
    """Arrays that say which step they are of, some large and some small."""

    def __init__(self) -> None:
        self.arrays = [np.zeros(max(1, int(NBYTES) // 8 // 4), np.float64) for _ in range(4)]
        self.arrays += [np.zeros(3, np.float32), np.zeros((), np.int64)]

    def step(self) -> None:
        for array in self.arrays:
            np.add(array, 1, out=array)

    def state_dict(self) -> dict[str, object]:
        return {str(number): array for number, array in enumerate(self.arrays)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        for number, array in enumerate(self.arrays):
            array[...] = state[str(number)]


def die() -> None:
    time.sleep(LATER_S)
    if HOW == "BOTH":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), getattr(signal, HOW, signal.SIGKILL))


def main() -> None:
    model, first = Model(), None
    dies = HOW != "none" and int(os.environ["BACKPROP_ATTEMPT"]) <= int(
        os.environ.get("DYING_ATTEMPTS", "99")
    )
    with backprop.timebox(model=model) as box:
        for step in box.steps(STEPS):
            print("step", step, flush=True)
            first = step if first is None else first
            if step == first + AFTER and dies:
                threading.Thread(target=die, daemon=True).start()
            time.sleep(STEP_S)
            model.step()
    assert int(model.arrays[-1]) == STEPS
    print("done", flush=True)


if __name__ == "__main__":
    main()
