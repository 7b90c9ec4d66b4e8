"""Starts two ranks by hand, as a launcher does that ends nobody: ranks_early_death.py [unnumbered]. The second dies early.

`unnumbered`: the environment tells them nothing, and they tell `init_process_group` themselves.
"""

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
        words, told = [rank], {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if sys.argv[1:] == ["unnumbered"]:
            words, told = [rank, port], {}
        both.append(subprocess.Popen([sys.executable, __file__, *words], env={**os.environ, **told}))
    sys.exit(max(one.wait() != 0 for one in both))


def train(rank: str, port: str = "") -> None:
    import torch
    import torch.distributed as dist
    from torch import nn

    if port:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=int(rank), world_size=2)
    else:
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
    train(*sys.argv[1:]) if sys.argv[1:2] in (["0"], ["1"]) else main()
