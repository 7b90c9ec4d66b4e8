"""Starts two ranks by hand, as a launcher does that ends nobody: ranks_early_death.py. The second dies before it trains."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = []
    for rank in ("0", "1"):
        told = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        both.append(subprocess.Popen([sys.executable, __file__, rank], env={**os.environ, **told}))
    sys.exit(max(one.wait() != 0 for one in both))


def train() -> None:
    import torch
    import torch.distributed as dist
    from torch import nn

    dist.init_process_group("gloo")
    if dist.get_rank():
        os.kill(os.getpid(), signal.SIGKILL)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    began = time.monotonic()
    for step in range(20):
        optimizer.zero_grad()
        model(torch.randn(4, 4)).sum().backward()
        optimizer.step()
        if not step:
            print(f"the first step took {time.monotonic() - began:.1f} s", flush=True)
    print("trained 20 steps", flush=True)
    os._exit(0)


if __name__ == "__main__":
    train() if sys.argv[1:] else main()
