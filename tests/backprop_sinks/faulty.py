"""Sinks that fail, hang and flood, put where an installed package would announce them."""

from __future__ import annotations

import os
from pathlib import Path

MODULE = """
import os, time, signal, subprocess
from pathlib import Path

class Base:
    def __init__(self, run):
        self.folder = run.folder
        (run.folder / "pid").write_text(str(os.getpid()))
    def take(self, told): pass
    def flush(self): pass
    def close(self): (self.folder / "closed").touch()

class Good(Base):
    def take(self, told):
        with (self.folder / "told").open("a") as file: file.write(f"{told.attempt} {told.event.kind}\\n")

class Fails(Base):
    def take(self, told): raise RuntimeError("no such server\\nat all")

class NeverBegins(Base):
    def __init__(self, run): raise OSError("no licence")

class Hangs(Base):
    def take(self, told):
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        (self.folder / "child").write_text(str(child.pid))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        while True: time.sleep(1000)

class Floods(Base):
    def take(self, told):
        for _ in range(300): print("x" * 100_000)

class Dies(Base):
    def take(self, told): os._exit(9)
"""
NAMES = {
    "good": "Good",
    "fails": "Fails",
    "never": "NeverBegins",
    "hangs": "Hangs",
    "floods": "Floods",
    "dies": "Dies",
}


def install(folder: Path) -> str:
    """Put them into a folder; the PYTHONPATH with which they are found."""
    site = folder / "site"
    announced = site / "faulty_sinks-1.dist-info"
    announced.mkdir(parents=True)
    (site / "faulty_sinks.py").write_text(MODULE)
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-sinks\nVersion: 1\n")
    lines = [f"{name} = faulty_sinks:{which}" for name, which in NAMES.items()]
    (announced / "entry_points.txt").write_text("\n".join(["[backprop.sinks]", *lines]) + "\n")
    return os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
