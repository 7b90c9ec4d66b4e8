"""The npm tool's editor extension, played: it asks for the version, starts and resumes runs by id, and watches
experiments.json.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_cli.sessions import STANDIN


def test_an_editor_sees_a_run_from_its_start_to_its_resumed_end(backprop: CommandLine) -> None:
    """While a run goes on its entry is there, running, and its checkpoints and step follow; every look at the file
    finds whole JSON in the npm tool's format; a stop and a resume change the entry and no other.
    """
    assert re.fullmatch(r"backprop, version \d+\.\d+\S*\n", backprop("--version").stdout)
    file = backprop.home / "experiments.json"
    known = {
        "id": "run-1718000000000-a1b2c3",
        "scriptPath": "old.py",
        "status": "completed",
        "checkpoints": [],
        "startTime": 1,
    }
    backprop.home.mkdir(mode=0o700)
    file.write_text(json.dumps({known["id"]: known}))

    def entry() -> dict[str, Any]:
        content = json.loads(file.read_text())  # never half of it
        assert content[known["id"]] == known
        found: dict[str, Any] = content.get("from-editor", {})
        return found

    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start("run", "train.py", "-m", "10", "--name", "My run", "--run-id", "from-editor")
    try:
        begun = wait_for(entry)
        assert (begun["status"], begun["name"], begun["scriptPath"]) == (
            "running",
            "My run",
            str(backprop.folder / "train.py"),
        )
        assert begun["startTime"] > 1_700_000_000_000
        assert "endTime" not in begun
        wait_for((backprop.attempt_dir("from-editor") / "events.jsonl").exists)
        assert backprop("checkpoint", "from-editor").returncode == 0
        wait_for(lambda: entry().get("lastCheckpoint"))
        assert backprop("stop", "from-editor").returncode == 0
        process.wait(timeout=240)
    finally:
        end(process)
    stopped = entry()
    assert (stopped["status"], stopped["lastStep"] > 0) == ("stopped", True)
    assert stopped["endTime"] >= stopped["startTime"]
    assert stopped["lastCheckpoint"] == stopped["checkpoints"][-1]
    backprop.environment["STANDIN_STEPS"] = str(stopped["lastStep"] + 10)
    assert backprop("resume", "from-editor").returncode == 0
    done = entry()
    assert (done["status"], done["lastStep"]) == ("completed", stopped["lastStep"] + 10)
    assert done["startTime"] == stopped["startTime"]
