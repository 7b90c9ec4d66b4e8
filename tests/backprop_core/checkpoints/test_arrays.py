"""Staging memory and the processes that are forked beside it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FORKED = """
import gc, os
from backprop_core.checkpoints.arrays import allocate_ram

kept, dropped = allocate_ram(1 << 20), allocate_ram(1 << 20)
kept[:], dropped[:] = b"1" * len(kept), b"2" * len(dropped)
child = os.fork()
if child == 0:
    new = [allocate_ram(1 << 20, staging=False) for _ in range(4)]  # the kernel puts them wherever there is room
    del dropped
    gc.collect()
    for buffer in new:
        buffer[:] = b"3" * len(buffer)
    os._exit(int(any(kept)))  # 1: the fork shares the buffer's pages with its parent
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bytes(kept[:1]), bytes(dropped[:1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can empty a buffer in forked processes")
def test_a_forked_process_neither_shares_a_staging_buffer_nor_crashes_when_it_drops_one() -> None:
    """Letting go of an inherited buffer leaves what the child has mapped since alone, and the parent keeps its bytes."""
    made = subprocess.run(
        [sys.executable, "-c", _FORKED], capture_output=True, text=True, timeout=240, check=True
    )
    assert made.stdout.split() == ["0", "b'1'", "b'2'"]
