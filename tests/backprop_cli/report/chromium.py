"""A real Chromium without a screen, spoken to through a pipe: what a page shows, says, asks for, and does with keys."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.programs import program

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--disable-dev-shm-usage",
)
_SWITCHED_OFF = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)


class Page:
    """One page, open.

    Attributes:
        complaints: what its console said that is an error or a warning, and exceptions.
        asked_for: every address that it asked for.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self.complaints: list[str] = []
        self.asked_for: list[str] = []
        self._requests, self._answers = requests, answers
        self._rest, self._number, self._session = b"", 0, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.ask(f"{domain}.enable")

    def open(self, path: Path) -> None:
        """Show a file, and wait until it is loaded."""
        self.visit(path.as_uri())

    def visit(self, address: str) -> None:
        """Show what is at an address, and wait until it is loaded."""
        self.ask("Page.navigate", url=address)
        protocol = f"{address.partition(':')[0]}:"
        while self.value("document.readyState + location.protocol") != f"complete{protocol}":
            pass

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        code = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "Tab": 9, " ": 32}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, width: int, height: int) -> bytes:
        """A PNG of the page."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def ask(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """One command of the browser's protocol, to its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: Mapping[str, Any] = answer["result"]
                return result
            self._take(answer)

    def _take(self, event: Mapping[str, Any]) -> None:
        facts = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.asked_for.append(facts["request"]["url"])
            return
        entry = facts.get("entry", {}) if event.get("method") == "Log.entryAdded" else {}
        said = facts.get("type") if event.get("method") == "Runtime.consoleAPICalled" else entry.get("level")
        if event.get("method") == "Runtime.exceptionThrown" or said in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(facts))

    def _read(self) -> Mapping[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers, 1 << 20)
            assert piece, "Chromium has ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message: Mapping[str, Any] = json.loads(line)
        return message


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with a profile in `folder`, ended afterwards."""
    browser = program("chromium", "chromium-browser", "google-chrome")
    to_browser, requests = os.pipe()
    answers, from_browser = os.pipe()

    pipes = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", pipes, browser, *_FLAGS, *_SWITCHED_OFF, f"--user-data-dir={folder}"],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(requests, answers)
    finally:
        os.close(requests)
        process.terminate()
        process.wait(60)
        os.close(answers)
