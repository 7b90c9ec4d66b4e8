"""logs, prune, config, doctor, status --watch and the group itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backprop_cli.app import COMMANDS
from backprop_core.checkpoints import NumpyTranslator, capture
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_cli.environments import base_install
from tests.backprop_cli.sessions import STANDIN
from tests.backprop_core.checkpoints.states import facts


def test_an_attempt_without_output_says_so(backprop: CommandLine) -> None:
    """An empty log is no silence: somebody asked."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "mute")
    shown = backprop("logs", "mute")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert "printed nothing" in shown.stderr


def test_logs_show_what_was_printed(backprop: CommandLine) -> None:
    """All of it, the last lines, another attempt; an attempt that does not exist is a usage error."""
    backprop.script("import sys\nfor i in range(50_000): print('line', i)\nraise SystemExit(1)")
    backprop("run", "train.py", "--run-id", "l")
    assert backprop("logs", "l").stdout.splitlines()[0] == "line 0"
    assert backprop("logs", "l", "-n", "2").stdout == "line 49998\nline 49999\n"
    assert backprop("logs", "l", "-n", "0").stdout == ""
    assert len(backprop("logs", "l", "-n", "60000").stdout.splitlines()) == 50_000
    assert backprop("logs", "l", "--attempt", "1", "-n", "1").stdout == "line 49999\n"
    assert backprop("logs", "l", "--attempt", "2").returncode == 2
    assert backprop("logs", "l", "-n", "-1").returncode == 2
    assert backprop("logs", "nobody").returncode == 2


def test_a_progress_bar_is_one_line_of_the_log(backprop: CommandLine) -> None:
    """-n counts lines as a terminal does: what a bar has drawn over itself is one."""
    backprop.script("print('first'); print('\\r10%\\r20%\\r30%'); print('last', end='')")
    backprop("run", "train.py", "--run-id", "bar")
    assert backprop("logs", "bar", "-n", "2").stdout.splitlines() == ["", "10%", "20%", "30%", "last"]
    assert backprop("logs", "bar", "-n", "1").stdout == "last"


def test_logs_follow_a_chain_from_its_wait_to_its_last_box(backprop: CommandLine) -> None:
    """-f waits for a run that waits itself, and goes on with the next box after a rest."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = str(backprop.steps(100))
    chain = ["-m", backprop.box(1.8), "--until-done", "--rest", "0.01", "--run-id", "c"]
    waiting = backprop.start("run", "train.py", "--run-id", "w", "--min-free-ram", "60000")
    wait_for((backprop.home / "runs" / "w" / "run.json").exists)
    assert "has not started yet" in backprop("logs", "w").stderr
    run = backprop.start("run", "train.py", *chain)
    wait_for((backprop.home / "runs" / "c" / "run.json").exists)
    follow = backprop.start(
        "logs", "c", "-f", "-n", "5"
    )  # which waits as long as the one before it in the queue
    waiting.terminate()
    waiting.communicate(timeout=240)
    out, _ = follow.communicate(timeout=240)
    run.communicate(timeout=240)
    assert out.count("argv") == len(backprop.record("c")["attempts"]) >= 2


def test_logs_follow_until_the_run_ends(backprop: CommandLine) -> None:
    """-f shows new lines as they come and returns when the run is over."""
    backprop.script(
        """
        import os, time
        print("first", flush=True)
        while not os.path.exists("go"): time.sleep(0.01)
        print("last", flush=True)
        """
    )
    run = backprop.start("run", "train.py", "--run-id", "f")
    wait_for((backprop.attempt_dir("f") / "output.log").exists)
    follow = backprop.start("logs", "f", "-f")
    assert follow.stdout is not None
    assert follow.stdout.readline() == "first\n"
    (backprop.folder / "go").touch()
    out, _ = follow.communicate(timeout=240)
    assert out == "last\n"
    run.communicate(timeout=240)


def test_prune_asks_first_and_removes_only_what_is_old(backprop: CommandLine) -> None:
    """A dry run and a No remove nothing; a Yes removes the old run and leaves the young and the running."""
    backprop.script("")
    for name in ("old", "young"):
        backprop("run", "train.py", "--run-id", name)
    record = backprop.home / "runs" / "old" / "run.json"
    text = record.read_text()
    content = json.loads(text)
    for attempt in content["attempts"]:
        attempt["started_wall"] = attempt["ended_wall"] = 1e9
    content["created_wall"] = 1e9
    record.write_text(json.dumps(content))
    index = backprop.home / "experiments.json"
    entries = json.loads(index.read_text())
    entries["old"] |= {"startTime": 10**12, "endTime": 10**12}
    index.write_text(json.dumps(entries))
    dry = backprop("prune", "--dry-run")
    assert "old" in dry.stdout
    assert "young" not in dry.stdout
    assert "Nothing was removed" in backprop("prune", stdin="n\n").stderr
    nobody = backprop("prune", stdin="")
    assert (nobody.returncode, "--yes" in nobody.stderr) == (2, True)
    assert record.exists()
    assert backprop("prune", stdin="y\n").returncode == 0
    assert [row["id"] for row in backprop.runs()] == ["young"]
    assert not record.parent.exists()
    assert "nothing to remove" in backprop("prune", "--yes").stderr
    assert backprop("prune", "--older-than", "soon").returncode == 2
    assert backprop("prune", "--status", "running").returncode == 2


def test_prune_puts_back_what_a_resume_had_hidden(backprop: CommandLine) -> None:
    """A machine that failed on the way back left a file of the script's in the run's folder; it is no part of the run."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "died")
    hidden = backprop.home / "runs" / "died" / "files" / "hidden"
    hidden.mkdir(parents=True)
    (hidden / "0-last.pt").write_text("weights")
    place = backprop.folder / "last.pt"
    note = json.dumps({"path": str(place), "at": str(hidden / "0-last.pt")})
    (hidden.parent / "hidden.jsonl").write_text(note + "\n")
    assert backprop("prune", "--older-than", "0s", "--yes").returncode == 0
    assert place.read_text() == "weights"
    assert not hidden.exists()
    assert backprop.runs() == []


def test_prune_can_thin_out_checkpoints(backprop: CommandLine) -> None:
    """--checkpoints keeps the run and its newest two checkpoints that are whole; where two are not, it keeps all."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "many")
    folder = backprop.home / "runs" / "many" / "checkpoints"
    store = CheckpointStore(folder, clock=SYSTEM, keep=10)
    for step in range(5):
        store.commit(capture({"model": {"w": np.full(3, step)}}, (NumpyTranslator(),)), facts(step))
    (folder / "damaged-step-000000000009").mkdir()

    def left() -> list[int]:
        assert backprop("prune", "--checkpoints", "--older-than", "0s", "--yes").returncode == 0
        return [int(path.name[-12:]) for path in sorted(folder.iterdir()) if path.is_dir()]

    damage(folder / "step-000000000004")
    assert left() == [2, 3, 4]
    damage(folder / "step-000000000003")
    assert left() == [2, 3, 4]
    assert [row["id"] for row in backprop.runs()] == ["many"]


def damage(checkpoint: Path) -> None:
    """Turn one byte of a checkpoint's tensors over."""
    (file,) = checkpoint.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_config_shows_values_and_where_they_come_from(backprop: CommandLine) -> None:
    """Default, file and environment are told apart; a bad file is named with status 2."""
    file = backprop.folder / "backprop.config.json"
    file.write_text('{"maxRunMinutes": 30, "gpu": {"maxTempC": 70}}')
    backprop.environment["BACKPROP_GRACE"] = "5"
    shown = json.loads(backprop("config", "--json").stdout)
    assert shown["max-run-minutes"] == {"value": 30.0, "origin": f"{file} (maxRunMinutes)"}
    assert shown["grace"] == {"value": 5.0, "origin": "BACKPROP_GRACE"}
    assert shown["resume-flag"] == {"value": None, "origin": "default"}
    assert "maxRunMinutes" in backprop("config").stdout
    other = backprop.folder / "other.json"
    other.write_text('{"maxRunMinutes": 7}')
    assert (
        json.loads(backprop("config", "--json", "--config", "other.json").stdout)["max-run-minutes"]["value"]
        == 7
    )
    file.write_text('{"maxRunMinutes": "long"}')
    ran = backprop("config")
    assert ran.returncode == 2
    assert str(file) in ran.stderr
    assert "maxRunMinutes" in ran.stderr


def test_the_npm_tools_config_file_works_unchanged(backprop: CommandLine) -> None:
    """The file from the npm tool's manual is read, key by key."""
    fixture = Path(__file__).parent / "fixtures" / "backprop.config.json"
    (backprop.folder / "backprop.config.json").write_bytes(fixture.read_bytes())
    backprop.environment = {
        key: value
        for key, value in backprop.environment.items()
        if key in ("BACKPROP_HOME", "BACKPROP_RUNTIME_DIR") or not key.startswith("BACKPROP_")
    }
    shown = json.loads(backprop("config", "--json").stdout)
    values = {name: setting["value"] for name, setting in shown.items()}
    expected = {"max-run-minutes": 30, "max-parallel": 2, "gpu-memory-limit": "80%", "gpu-probe": "auto"}
    expected |= {"gpu-min-vram": 2500, "gpu-max-temp": 85}
    assert values == values | expected


def test_the_npm_tools_experiments_work_unchanged(backprop: CommandLine) -> None:
    """Its runs are listed and told beside ours, and survive a new run."""
    fixture = Path(__file__).parent / "fixtures" / "experiments.json"
    backprop.home.mkdir()
    (backprop.home / "experiments.json").write_bytes(fixture.read_bytes())
    backprop.script("")
    backprop("run", "train.py", "--run-id", "ours")
    rows = {row["id"]: row for row in backprop.runs()}
    assert set(json.loads(fixture.read_text())) < set(rows)
    timeboxed = rows["run-1718000000000-a1b2c3"]
    assert (timeboxed["status"], timeboxed["last_step"], timeboxed["last_loss"]) == ("timeboxed", 500, 0.015)
    assert "timeboxed" in backprop("status", "run-1718000000000-a1b2c3").stdout


def test_doctor_examines_and_names_what_is_wrong(backprop: CommandLine) -> None:
    """In order it ends with 0; a bad setting and a mistyped variable are named."""
    good = backprop("doctor", "--quick")
    assert good.returncode == 0, good.stdout
    assert "Python" in good.stdout
    backprop.environment["BACKPROP_MAX_RUN_MINUTS"] = "5"
    assert "BACKPROP_MAX_RUN_MINUTS" in backprop("doctor", "--quick").stdout
    backprop.environment["BACKPROP_MAX_PARALLEL"] = "none"
    bad = backprop("doctor", "--quick", "--json")
    assert bad.returncode == 1
    assert any("BACKPROP_MAX_PARALLEL" in finding["text"] for finding in json.loads(bad.stdout))


def test_doctor_knows_what_a_script_is_told(backprop: CommandLine) -> None:
    """Asked from inside a run it finds no strange variable; every adapter with its framework is ready."""
    backprop.script(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'backprop_cli', 'doctor', '--quick'])"
    )
    shown = backprop("run", "train.py", "-g", "80%", "-c", "5").stdout
    assert "has no option" not in shown
    for name in ("torch", "lightning", "keras", "transformers"):
        assert f"backprop_{name}: ready" in shown


def test_doctor_names_a_framework_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that breaks on import is a finding, not the end of the examination."""
    from importlib.metadata import EntryPoint

    from backprop_cli.commands import doctor

    broken = EntryPoint("json", "no.such.module:Thing", "backprop.frameworks")
    monkeypatch.setattr(doctor, "entry_points", lambda group: [broken])
    ((kind, text),) = doctor._imports()
    assert kind == "wrong"
    assert "json" in text
    monkeypatch.setattr(doctor, "_ADAPTERS", {"tests.no_such_module_of_ours": ("os",), "json": ("os",)})
    monkeypatch.setattr(doctor, "find_spec", lambda name: name)
    ((kind, text),) = doctor._callbacks()
    assert (kind, text.partition(" ")[0]) == ("wrong", "tests.no_such_module_of_ours")


def test_doctor_finds_a_base_install_healthy(backprop: CommandLine, tmp_path: Path) -> None:
    """Without any framework nothing is wrong: the adapters wait for theirs, and the status is 0."""
    interpreter = base_install(tmp_path / "base")
    done = subprocess.run(
        [interpreter, "-m", "backprop_cli", "doctor"],
        cwd=backprop.folder, env=backprop.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"scripts run with {interpreter}" in done.stdout
    assert "wrong" not in done.stdout
    assert "backprop_torch: waits for torch" in done.stdout


def test_wrong_words_get_a_proposal(backprop: CommandLine) -> None:
    """A mistyped command and a mistyped option name the near one, with status 2."""
    ran = backprop("resum", "x")
    assert ran.returncode == 2
    assert "resume" in ran.stderr
    backprop.script("")
    ran = backprop("run", "train.py", "--max-run-minuts", "3")
    assert ran.returncode == 2
    assert "--max-run-minutes" in ran.stderr


def test_a_script_in_place_of_a_command_gets_the_line_to_type(backprop: CommandLine) -> None:
    """`backprop train.py` proposes `backprop run train.py`, arguments and all, and runs nothing."""
    backprop.script("open('ran', 'w')")
    ran = backprop("train.py", "--lr", "a b")
    assert ran.returncode == 2
    assert "backprop run train.py --lr 'a b'" in ran.stderr
    assert not (backprop.folder / "ran").exists()


def test_ls_is_list_and_the_package_is_the_command(backprop: CommandLine) -> None:
    """`backprop ls` shows what `list` shows, and `python -m backprop` is `backprop`."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "one")
    assert backprop("ls", "--json").stdout == backprop("list", "--json").stdout
    ran = subprocess.run(
        [sys.executable, "-m", "backprop", "ls"],
        cwd=backprop.folder, env=backprop.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "one" in ran.stdout


def test_help_imports_no_command() -> None:
    """`backprop --help` shows every command without importing one: it is to cost little more than `--version`."""
    code = (
        "import sys; from backprop_cli.__main__ import main; main(['--help'])\n"
        "print([name for name in sys.modules if name.startswith('backprop_cli.commands')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("[]\n")
    for name, what in COMMANDS.items():
        assert name in shown
        assert what in shown


def test_help_and_version(backprop: CommandLine) -> None:
    """Every command explains itself with an example; the version is the package's."""
    from backprop_core import __version__

    assert __version__ in backprop("--version").stdout
    for name in COMMANDS:
        shown = backprop(name, "--help")
        assert shown.returncode == 0, name
        assert "Usage:" in shown.stdout
        assert f"backprop {name}" in shown.stdout.partition("Example")[2], name
    assert "backprop run train.py" in backprop("run", "-h").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_can_be_made(backprop: CommandLine, shell: str) -> None:
    """The script that the documentation tells to load exists for each shell."""
    backprop.environment["_BACKPROP_COMPLETE"] = f"{shell}_source"
    assert "backprop" in backprop().stdout


def test_status_watch_goes_on_until_ctrl_c(backprop: CommandLine) -> None:
    """--watch shows the same again and again, and Ctrl-C ends it with 130."""
    process = backprop.start("status", "--watch")
    assert process.stdout is not None
    seen = 0
    while seen < 2:
        seen += "free memory" in process.stdout.readline()
    process.send_signal(2)
    process.communicate(timeout=240)
    assert process.returncode == 130


def test_status_watch_of_a_run_that_trains_has_its_curve(backprop: CommandLine) -> None:
    """Beside the story of the run, the loss of the last minutes is a line that changes while it trains."""
    backprop.environment |= {"STANDIN_STEPS": "100000", "PYTHONIOENCODING": "utf-8"}
    backprop.script(STANDIN)
    process = backprop.start("run", "train.py", "--run-id", "w", "-m", "10", stdout=None, stderr=None)
    try:
        wait_for((backprop.attempt_dir("w") / "events.jsonl").exists)
        watch = backprop.start("status", "w", "--watch")
        assert watch.stdout is not None
        curves: set[str] = set()
        while len(curves) < 2:
            line = watch.stdout.readline()
            assert line, "it has ended"
            if re.fullmatch(r"loss  [\u2800-\u28ff]+  \S+ to \S+ in .*\n", line):
                curves.add(line)
        watch.send_signal(2)
        watch.communicate(timeout=240)
        assert backprop("stop", "w").returncode == 0
        process.wait(timeout=240)
    finally:
        end(process)


def test_run_ids_are_completed(backprop: CommandLine) -> None:
    """The shell proposes the runs that there are."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "baseline")
    backprop.environment |= {
        "_BACKPROP_COMPLETE": "bash_complete",
        "COMP_WORDS": "backprop status ba",
        "COMP_CWORD": "2",
    }
    assert "baseline" in backprop().stdout


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        ("run tr", "file,tr"),
        ("run --config ", "file,"),
        ("run -f ke", "plain,keras"),
        ("run --gpu-probe nv", "plain,nvidia-smi"),
        ("run --max-pa", "plain,--max-parallel"),
        ("res", "plain,resume"),
    ],
)
def test_files_names_and_options_are_completed(backprop: CommandLine, words: str, proposed: str) -> None:
    """The shell is told where a file is wanted, and which words there are elsewhere."""
    backprop.environment |= {
        "_BACKPROP_COMPLETE": "bash_complete",
        "COMP_WORDS": f"backprop {words}",
        "COMP_CWORD": str(len(words.split(" "))),
    }
    assert proposed in backprop().stdout.splitlines()


def test_the_documentation_names_every_command_and_option() -> None:
    """docs/cli.md has each command, and each option with its variable and its key."""
    from backprop_core.config.options import OPTIONS

    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"`{name}" in text, name
    for option in OPTIONS:
        for word in (f"--{option.name}", option.env, f"`{option.key}`"):
            assert word in text, word
