"""What a script's own `for` goes over."""

from __future__ import annotations

import io

import tqdm

from backprop_core.loop.sources import counting_from, counts_of


def test_a_range_counts_from_another_number_to_the_same_end() -> None:
    """The script began elsewhere, since it has restored itself: what it goes over is what it went over before."""
    assert counts_of(range(2, 10, 2)) == (2, 2)
    assert list(counting_from(range(6, 10, 2), 2)) == [2, 4, 6, 8]
    assert counts_of([1, 2]) is counts_of(enumerate(range(3))) is None


def test_a_bar_over_such_a_range_stands_where_it_stood() -> None:
    """It was told that it begins with the sixth of ten, and goes over all ten again."""
    bar = tqdm.tqdm(range(6, 10), initial=6, total=10, file=io.StringIO())
    assert counts_of(bar) == (6, 1)
    assert list(counting_from(bar, 0)) == list(range(10))
    assert (bar.n, bar.total) == (10, 10)
