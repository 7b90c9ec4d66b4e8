"""`backprop report` as a command, and what its page says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_cli.report.made_up_run import make_run

_VOID = {"meta", "input", "br", "line", "circle"}


class _Checker(HTMLParser):
    """Raises where a page is not well-formed, or names something outside of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identities: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        assert not {"src", "srcset", "onclick", "onload"} & facts.keys()
        assert (facts.get("href") or "#").startswith("#")
        assert tag not in ("link", "iframe", "object", "embed", "img", "base")
        self.identities += [facts["id"] or ""] if "id" in facts else []
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_tells_everything_and_needs_nothing(backprop: CommandLine) -> None:
    """One well-formed file that names nothing outside, runs no word of a run as code, and tells boxes, pauses, forecasts,
    checkpoints, time and warnings.
    """
    make_run(backprop.home)
    done = backprop("report", "made")
    assert done.returncode == 0, done.stderr
    path = backprop.folder / "backprop-made.html"
    assert done.stdout == f"{path}\n"
    content = path.read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(content)
    assert checker.open == []
    assert len({*checker.identities}) == len(checker.identities)
    assert "alert('name')</script>" not in content
    assert "\x1b" not in content
    assert not re.search(r"https?:|@import|url\(", content)
    for words in (
        "It was lost.",
        "20 of them repeated",
        "GPU 0 has 86 °C",
        "290 (97%)",
        "The disk is slow.",
        "deadline",
        "loss over steps. It goes from",
        "40.0 s",
        "GPU power",
        "300 W",
        "Wh, estimated",
        "option seed",
    ):
        assert words in content, words


def test_the_page_of_a_long_run_stays_small(tmp_path: Path, backprop: CommandLine) -> None:
    """Ten times as many seconds, or a million steps, make a page that is hardly larger, and the last step is in it."""
    make_run(backprop.home, "short", seconds=1_000)
    make_run(backprop.home, "long", seconds=10_000, decay=0.5)
    make_run(backprop.home, "fast", seconds=1_000, steps_a_second=340)
    pages = [backprop("report", run, "-o", "-").stdout for run in ("short", "long", "fast")]
    sizes = [len(page) for page in pages]
    assert sizes[0] > 100_000
    assert max(sizes) < 1.5 * sizes[0]
    assert "1013200" in pages[2]


def test_the_terminal_shows_curves_and_why_boxes_ended(backprop: CommandLine) -> None:
    """--text draws in Braille, in stars where the terminal knows no Braille, and writes no file."""
    make_run(backprop.home)
    backprop.environment["PYTHONIOENCODING"] = "utf-8"
    shown = backprop("report", "made", "--text")
    assert shown.returncode == 0, shown.stderr
    assert re.search("[\u2801-\u28ff]{5}", shown.stdout)
    assert "box 2 lost: It was lost." in shown.stdout
    assert "\x1b" not in shown.stdout
    backprop.environment["PYTHONIOENCODING"] = "ascii"
    plain = backprop("report", "made", "--text").stdout
    assert "****" in plain
    assert not re.search("[\u2800-\u28ff]", plain)
    assert list(backprop.folder.iterdir()) == []


def test_a_script_that_prints_its_steps_has_a_curve(backprop: CommandLine) -> None:
    """Of a script without a session what it says on standard output is drawn, with the machine under it."""
    backprop.script(
        """
        import json, time
        for step in range(25):
            print(json.dumps({"step": step, "loss": 1 / (1 + step)}), flush=True)
            time.sleep(0.1)
        """
    )
    assert backprop("run", "train.py", "--run-id", "said").returncode == 0
    shown = backprop("report", "said", "--text").stdout
    assert "\nloss\n" in shown
    assert "memory of all its processes" in shown
    assert "step 24" in shown


def test_a_run_with_nothing_to_show_has_a_page_all_the_same(backprop: CommandLine) -> None:
    """A run that died at once, and one that only the npm tool knows, are shown as far as they are known."""
    backprop.script("raise SystemExit(3)")
    backprop("run", "train.py", "--run-id", "dead")
    entry = '{"npm": {"id": "npm", "scriptPath": "/x/train.py", "status": "failed", "lastStep": 7, "startTime": 1}}'
    (backprop.home / "experiments.json").write_text(entry)
    for run in ("dead", "npm"):
        page = backprop("report", run, "-o", "-")
        assert page.returncode == 0, page.stderr
        assert "The script has logged nothing" in page.stdout
        assert backprop("report", run, "--text").returncode == 0


def test_what_cannot_be_meant_is_one_sentence(backprop: CommandLine) -> None:
    """An unknown run, options that fit together badly and places that cannot be written end with a sentence."""
    make_run(backprop.home)
    for words, status in (
        (["report", "nothing"], 2),
        (["report", "made", "--text", "-o", "x.html"], 2),
        (["report", "made", "--open", "-o", "-"], 2),
        (["report", "made", "-o", "."], 2),
        (["report", "made", "-o", "no/where.html"], 2),
    ):
        done = backprop(*words)
        assert done.returncode == status, (words, done.stderr)
        assert done.stderr.strip(), words
        assert "Traceback" not in done.stderr, words
