"""The report in a real browser."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.backprop_cli.report import chromium
from tests.backprop_cli.report.made_up_run import make_run


def _report(tmp_path: Path) -> Path:
    make_run(tmp_path / "home")
    page = tmp_path / "page.html"
    environment = {**os.environ, "BACKPROP_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "backprop_cli", "report", "made", "-o", str(page)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return page


def _colours(png: bytes) -> set[bytes]:
    """The colours of the first pixel of each line of a PNG without interlacing, whatever its filter leaves of them."""
    size = struct.unpack(">II", png[16:24])
    assert min(size) > 500
    data, place = b"", 8
    while place < len(png):
        length = struct.unpack(">I", png[place : place + 4])[0]
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += length + 12
    return set(zlib.decompress(data)[:100].split(b"\0"))


@pytest.mark.skipif(chromium.PROGRAM is None, reason="Chromium is not installed; .ci/run installs it")
def test_a_browser_shows_the_page_without_a_complaint_and_without_asking_for_anything(tmp_path: Path) -> None:
    """Text and curves are there, names are only text, keys move along a curve and say the values, dark and print differ,
    nothing is fetched, and the console stays empty.
    """
    path = _report(tmp_path)
    with chromium.chromium(tmp_path / "profile") as page:
        page.open(path)
        words = page.value("document.body.innerText")
        for told in (
            "alert('name')",
            "The machine",
            "GPU 0 has 86 °C",
            "It was lost.",
            "20 of them repeated",
        ):
            assert told in words, told
        assert page.value("document.querySelectorAll('header script, figcaption b').length") == 0
        assert page.value("document.querySelectorAll('figure svg path.line').length") >= 10
        lengths = "[...document.querySelectorAll('.by-step path.line')].map(path => path.getTotalLength())"
        assert min(page.value(lengths)) > 10
        _moves_with_keys(page)
        _switches_to_time(page)
        names = [
            node["name"].get("value", "")
            for node in page.ask("Accessibility.getFullAXTree")["nodes"]
            if "name" in node
        ]
        assert any("loss over time. It goes from" in name for name in names)
        bright = page.picture(1000, 900)
        background = "getComputedStyle(document.body).backgroundColor"
        before = page.value(background)
        page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert page.value(background) != before
        assert _colours(page.picture(1000, 900)) != _colours(bright)
        page.ask("Emulation.setEmulatedMedia", media="print", features=[])
        assert page.value("getComputedStyle(document.querySelector('fieldset')).display") == "none"
        assert page.complaints == []
        assert page.asked_for == [path.as_uri()]


def _moves_with_keys(page: chromium.Page) -> None:
    page.value("document.querySelector('figure input').focus()")
    page.press("Home")
    assert page.value("document.querySelector('figure output').textContent").startswith(
        "step 1, 13.0 s: 1.99"
    )
    page.press("ArrowRight")
    assert page.value("document.activeElement.getAttribute('aria-valuetext')").startswith(
        "step 4, 16.0 s"
    )  # thinned
    assert page.value("document.querySelector('figure circle.cursor').hasAttribute('hidden')") is False


def _switches_to_time(page: chromium.Page) -> None:
    shown = "[...document.querySelectorAll('figure.by-time')].filter(figure => figure.offsetParent).length"
    assert page.value(shown) == 0
    page.value("document.getElementById('by-time').click()")
    assert page.value(shown) >= 3
    assert page.value(shown.replace("by-time", "by-step")) == 0
