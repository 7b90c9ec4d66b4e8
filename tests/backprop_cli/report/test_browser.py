"""The report in a real browser."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

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


def test_a_browser_shows_the_page_without_a_complaint_and_without_asking_for_anything(tmp_path: Path) -> None:
    """Text and curves are there, names are only text, Tab reaches the curves, keys move along one and say the values, text
    has contrast in light and dark, print opens everything, nothing is fetched, and the console stays empty.
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
        _is_reached_by_tab(page)
        _moves_with_keys(page)
        _switches_to_time(page)
        names = [
            node["name"].get("value", "")
            for node in page.ask("Accessibility.getFullAXTree")["nodes"]
            if "name" in node
        ]
        assert any("loss over time. It goes from" in name for name in names)
        assert min(page.value(_CONTRAST)) >= 4.5
        bright = page.picture(1000, 900)
        background = "getComputedStyle(document.body).backgroundColor"
        before = page.value(background)
        page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert page.value(background) != before
        assert min(page.value(_CONTRAST)) >= 4.5
        assert _colours(page.picture(1000, 900)) != _colours(bright)
        page.ask("Emulation.setEmulatedMedia", media="print", features=[])
        assert page.value("getComputedStyle(document.querySelector('fieldset')).display") == "none"
        _prints_everything(page)
        assert page.complaints == []
        assert page.asked_for == [path.as_uri()]


_CONTRAST = """
(() => {
  const channels = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3)
    .map((c) => (c /= 255, c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("h1, h2, p, td, th, figcaption, summary, label, a")]
    .filter((node) => node.offsetParent && node.innerText.trim())
    .map((node) => [light(getComputedStyle(node).color), light(ground(node))])
    .map(([one, other]) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
})()
"""
"""How well the words of the page stand out, each as WCAG 2 counts it: from 1 to 21; 4.5 is what it asks for."""


def _is_reached_by_tab(page: chromium.Page) -> None:
    page.value("document.activeElement.blur()")
    reached = []
    for _ in range(8):
        page.press("Tab")
        reached.append(page.value("document.activeElement.className || document.activeElement.type"))
    assert reached[0] == "skip"
    assert "range" in reached


def _prints_everything(page: chromium.Page) -> None:
    assert base64.b64decode(page.ask("Page.printToPDF")["data"]).startswith(b"%PDF-")
    assert page.value("[...document.querySelectorAll('details')].every(one => one.open)")
    assert page.value("document.querySelectorAll('details').length") > 0


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
