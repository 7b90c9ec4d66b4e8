"""Copies of plain memory, by address."""

from __future__ import annotations

import random
import threading

import pytest

from backprop_core.checkpoints import memory
from backprop_core.checkpoints.memory import Region, address_of, copy_memory


@pytest.mark.parametrize("processors", [1, 2, 16])
def test_every_byte_comes_to_its_place_and_none_beside_it(
    monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    """Small, large and empty regions of odd sizes, copied by one thread or by several, which are gone behind it."""
    monkeypatch.setattr(memory, "_processors", lambda: processors)
    sizes = [0, 1, 63, (1 << 20) - 1, 1 << 20, (8 << 20) + 3, (32 << 20) + 1]
    source = random.Random(1).randbytes(sum(sizes))
    readable, target = bytearray(source), bytearray(sum(sizes) + 64 * len(sizes))
    regions, expected, start, place = [], bytearray(target), 0, 0
    for size in sizes:
        regions.append(
            Region(address_of(memoryview(target)) + place, address_of(memoryview(readable)) + start, size)
        )
        expected[place : place + size] = source[start : start + size]
        start, place = start + size, place + size + 64
    before = threading.active_count()
    copy_memory(regions)
    assert target == expected
    assert threading.active_count() == before


def test_an_empty_view_has_no_address() -> None:
    """Nothing is asked of memory that is not there."""
    assert address_of(memoryview(bytearray())) == 0
    copy_memory([])
