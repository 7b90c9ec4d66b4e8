"""AGENTS.md, the page for programs that run trainings: what it names is there, and its example does what it says."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path

from backprop_cli.app import COMMANDS
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_cli.test_json import TRAINING, valid

PAGE = (Path(__file__).parents[2] / "AGENTS.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_gives_its_result(backprop: CommandLine) -> None:
    """Its first command, typed as it stands, writes the object that the page describes; and so does the resume."""
    (typed,) = re.findall(r"^```bash\n(backprop run .*)\n```$", PAGE, re.M)
    backprop.script(TRAINING.format(start_up=0, steps=30))
    ran = backprop(*shlex.split(typed)[1:])
    assert ran.returncode == 0, ran.stderr
    file = backprop.folder / "exp-17.json"
    result = valid(json.loads(file.read_text()))
    assert (result["run_id"], result["outcome"], result["step"], result["next"]) == (
        "exp-17",
        "completed",
        30,
        None,
    )
    assert backprop("resume", "exp-17", "--json-to", str(file)).returncode == 0
    assert valid(json.loads(file.read_text()))["boxes"] == 0


def test_what_the_page_names_is_there(backprop: CommandLine) -> None:
    """Every option, command and key of the result on it exists, and every outcome of the schema is told."""
    helped = "\n".join(backprop(name, "--help").stdout for name in ("run", "resume", "status"))
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE.replace("-- --lr", ""))):
        assert option in helped, option
    for words in re.findall(r"`backprop ([a-z|]+)", PAGE):
        assert set(words.split("|")) <= set(COMMANDS), words
    schema = json.loads(files("backprop_cli").joinpath("result.schema.json").read_text(encoding="utf-8"))
    keys = schema["definitions"]["result"]["properties"]
    (table,) = re.findall(r"^\| look at \|.*?(?=\n\n)", PAGE, re.M | re.S)
    first_cells = " ".join(row.split("|")[1] for row in table.splitlines()[2:])
    assert set(re.findall(r"`(\w+)`", first_cells)) <= set(keys)
    assert {one for one in keys["outcome"]["enum"] if f"`{one}`" not in PAGE} <= {"lost"}
