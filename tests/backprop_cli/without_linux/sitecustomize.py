"""Takes away what macOS lacks, in every interpreter that finds this folder on PYTHONPATH, before backprop is imported."""

from __future__ import annotations

import fcntl
import importlib
import mmap
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

LOADED_AS_ON_LINUX = (
    "ctypes",
    "multiprocessing.util",
    "psutil",
    "subprocess",
    "platform",
    "urllib.request",
    "uuid",
)
"""Modules that choose their parts by `sys.platform`: macOS's parts are not on this machine."""
MISSING: dict[Any, tuple[str, ...]] = {
    os: (
        "memfd_create", "sched_getaffinity", "sched_setaffinity", "waitid", "pidfd_open", "posix_fadvise", "posix_fallocate",
        "copy_file_range", "eventfd", "getrandom", "O_TMPFILE", "O_DIRECT", "splice", "setns", "unshare", "pipe2",
    ),
    mmap: ("MADV_HUGEPAGE", "MADV_WIPEONFORK", "MADV_DONTFORK", "MAP_POPULATE"),
    select: ("epoll",),
    signal: ("pidfd_send_signal", "SIGPWR", "SIGRTMIN"),
    time: ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW"),
}  # fmt: skip
F_FULLFSYNC = 51
_fcntl = fcntl.fcntl


def _with_full_fsync(fd: int, command: int, *rest: Any) -> Any:
    return os.fsync(fd) or 0 if command == F_FULLFSYNC else _fcntl(fd, command, *rest)


for _name in LOADED_AS_ON_LINUX:
    with suppress(ImportError):
        importlib.import_module(_name)
for _module, _names in MISSING.items():
    for _name in _names:
        if hasattr(_module, _name):
            delattr(_module, _name)
fcntl.F_FULLFSYNC = F_FULLFSYNC  # type: ignore[attr-defined]
fcntl.fcntl = _with_full_fsync  # type: ignore[assignment]
sys.platform = "darwin"
