"""Two hosts on one machine: network namespaces with a link between them, and clocks of their own.

They share the file system, as nodes of a cluster do. The second has another name, another boot id and pids of its own, its
monotonic clock is hours ahead and its wall clock a minute. Needs root and `ip` (iproute2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

AHEAD_S = 60.0
_MONOTONIC_AHEAD_S = 7200
_ADDRESSES = ("10.213.77.1", "10.213.77.2")
_PORT = "29401"
_CLOCK = f"""
import time
_wall = time.time
time.time = lambda: _wall() + {AHEAD_S}
"""


class TwoHosts:
    """From `with` to its end.

    Attributes:
        addresses: of the hosts, on the link between them.
    """

    addresses = _ADDRESSES

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = tuple(f"bp-{os.getpid()}-{number}" for number in (1, 2))
        self._boot_id = folder / "boot-id"

    def __enter__(self) -> Self:
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        clock = self._folder / "clock"
        clock.mkdir()
        (clock / "sitecustomize.py").write_text(_CLOCK)
        first, second = self._names
        for name in self._names:
            _ip("netns", "add", name)
        _ip("link", "add", "host0", "netns", first, "type", "veth", "peer", "name", "host0", "netns", second)
        for name, address in zip(self._names, self.addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", "host0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "host0", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def cut(self) -> None:
        """Nothing passes the link from now on, and nobody is told so."""
        _ip("-n", self._names[0], "link", "set", "host0", "down")

    def mend(self) -> None:
        """The link is what it was."""
        _ip("-n", self._names[0], "link", "set", "host0", "up")

    def on(self, number: int, argv: Sequence[str]) -> list[str]:
        """`argv` on host 0 or 1."""
        there = ["ip", "netns", "exec", self._names[number]]
        if number == 0:
            return [*there, *argv]
        ahead = str(_MONOTONIC_AHEAD_S)
        apart = ["unshare", "--time", "--monotonic", ahead, "--boottime", ahead, "--uts", "--pid", "--fork"]
        script = 'hostname second && mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        inside = ["--mount-proc", "--kill-child", "sh", "-c", script, str(self._boot_id)]
        return [*there, *apart, *inside, *argv]

    def environment(self, number: int) -> dict[str, str]:
        """What host 0 or 1 adds to the environment."""
        told = {"GLOO_SOCKET_IFNAME": "host0"}
        if number == 1:
            told["PYTHONPATH"] = str(self._folder / "clock")
        return told


def why_not() -> str:
    """What this machine lacks; empty where it has all."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "`ip` is missing: apt-get install iproute2"
    done = subprocess.run(
        ["unshare", "--net", "--time", "--pid", "--fork", "--uts", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces are not permitted here: {done.stderr.strip()}" if done.returncode else ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def torchrun(number: int, address: str, script: Path, *words: str) -> list[str]:
    """The agent of host 0 or 1, with one process."""
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    where = ["--node-rank", str(number), "--master-addr", address, "--master-port", _PORT]
    return [*agent, *where, str(script), *words]
