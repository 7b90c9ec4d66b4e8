from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from backprop_core.config.options import OPTIONS
from backprop_core.config.sources import find_file, load_file, resolve
from backprop_core.errors import ConfigError

GOOD_AND_BAD: dict[str, tuple[Any, Any, Any]] = {
    "max-run-minutes": (30, 30.0, 0),
    "budget-from": ("Training", "training", "start"),
    "framework": ("PyTorch", "pytorch", "mxnet"),
    "checkpoint-every-minutes": (0.5, 0.5, -1),
    "gpu-memory-limit": ("80%", "80%", "120%"),
    "max-parallel": (3, 3, 2.5),
    "min-free-ram": (0, 0.0, "lots"),
    "max-load": (1.5, 1.5, 0),
    "gpu-probe": ("none", "none", 1),
    "gpu-min-vram": (100, 100.0, -1),
    "gpu-max-temp": (70, 70.0, 1000),
    "wait": (False, False, "perhaps"),
    "wait-minutes": (0, 0.0, True),
    "grace": (5, 5.0, -5),
    "strict": (True, True, "perhaps"),
    "keep-files": (True, True, "perhaps"),
    "replay-schedule": ("blue-fox", "blue-fox", 3),
    "provenance": (False, False, "perhaps"),
    "warning-signals": ("SIGXCPU, usr1", "USR1,XCPU", "KILL"),
    "watch-spot": ("AWS", "aws", "ibm"),
    "python": ("python3", "python3", ""),
    "rewrite": ("fastai, mylib", "fastai,mylib", "not a name"),
    "timeboxed-exit-code": (99, 99, 256),
    "resume-flag": ("--resume", "--resume", 3),
    "checkpoint-glob": ("out/*.pt", "out/*.pt", []),
    "sink": ("tensorboard, wandb:project", ["tensorboard", "wandb:project"], [3]),
    "tracker": (False, False, "perhaps"),
    "on-end": ("notify-send done", "notify-send done", ["a"]),
    "on-event": ("progress=a b\ncheckpoint_saved=c", ["progress=a b", "checkpoint_saved=c"], "progress="),
}


def nested(key: str, value: Any) -> dict[str, Any]:
    group, dot, inner = key.partition(".")
    return {group: {inner: value}} if dot else {key: value}


def test_every_option_has_a_good_and_a_bad_value_here() -> None:
    """No option escapes the tests below."""
    assert set(GOOD_AND_BAD) == {option.name for option in OPTIONS}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_key_in_json_takes_good_and_refuses_bad(option: Any, tmp_path: Path) -> None:
    """A good value arrives; a bad one is an error that names file, key and what is allowed."""
    good, parsed, bad = GOOD_AND_BAD[option.name]
    file = tmp_path / "backprop.config.json"
    file.write_text(json.dumps(nested(option.key, good)))
    assert load_file(file)[option.name].value == parsed
    file.write_text(json.dumps(nested(option.key, bad)))
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    for word in (str(file), option.key, option.allowed):
        assert word in str(caught.value)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_environment_variable_takes_good_and_refuses_bad(option: Any, tmp_path: Path) -> None:
    """The same values as text, under BACKPROP_<OPTION>; the error names the variable."""
    good, parsed, bad = GOOD_AND_BAD[option.name]
    text = {True: "true", False: "false"}.get(good, str(good)) if isinstance(good, bool) else str(good)
    settings = resolve(command_line={}, environ={option.env: text}, cwd=tmp_path)
    assert settings[option.name] == parsed
    assert settings.by_name[option.name].origin == option.env
    if isinstance(bad, str) and bad and option.name not in ("resume-flag", "checkpoint-glob", "python"):
        with pytest.raises(ConfigError, match=option.env):
            resolve(command_line={}, environ={option.env: bad}, cwd=tmp_path)


def test_pyproject_has_the_same_keys_in_kebab_case(tmp_path: Path) -> None:
    """[tool.backprop] is read, groups as tables, and its errors name the file."""
    file = tmp_path / "pyproject.toml"
    file.write_text(
        "[tool.backprop]\nmax-run-minutes = 30\nmin-free-ram-gb = 1.5\n"
        "[tool.backprop.gpu]\nmin-free-vram-mb = 100\nmax-temp-c = 70\nprobe = 'none'\n"
    )
    settings = resolve(command_line={}, environ={}, cwd=tmp_path)
    names = ("max-run-minutes", "min-free-ram", "gpu-min-vram", "gpu-max-temp", "gpu-probe")
    assert [settings[name] for name in names] == [30, 1.5, 100, 70, "none"]
    file.write_text("[tool.backprop]\nmaxRunMinutes = 30\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml.*maxRunMinutes"):
        resolve(command_line={}, environ={}, cwd=tmp_path)


def test_the_command_line_holds_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """Each place gives way to the one before it, and the origin says which one held."""
    given: dict[str, Any] = {"command_line": {}, "environ": {}, "cwd": tmp_path}
    assert resolve(**given)["max-run-minutes"] == 10
    file = tmp_path / "backprop.config.json"
    file.write_text('{"maxRunMinutes": 20}')
    assert resolve(**given)["max-run-minutes"] == 20
    assert str(file) in resolve(**given).by_name["max-run-minutes"].origin
    given["environ"] = {"BACKPROP_MAX_RUN_MINUTES": "30"}
    assert resolve(**given)["max-run-minutes"] == 30
    given["remembered"] = {"max-run-minutes": 35.0}
    assert resolve(**given)["max-run-minutes"] == 35
    given["command_line"] = {"max-run-minutes": "40"}
    assert resolve(**given)["max-run-minutes"] == 40
    assert resolve(**given).by_name["max-run-minutes"].origin == "--max-run-minutes"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"maxRunMinuts": 5}', ["maxRunMinuts", "maxRunMinutes"]),
        ('{"gpu": {"vram": 5}}', ["gpu.vram"]),
        ('{"gpu": 5}', ["gpu"]),
        ('{"maxRunMinutes": null}', ["maxRunMinutes", "null"]),
        ('{"maxRunMinutes": 1e999}', ["maxRunMinutes"]),
        ("[1, 2]", ["list"]),
        ("{broken", ["not valid JSON"]),
        ("[" * 100_000, ["not valid JSON"]),
        ("", ["not valid JSON"]),
    ],
)
def test_a_damaged_file_is_named(content: str, words: list[str], tmp_path: Path) -> None:
    """Unknown keys get the near one proposed, broken files are called broken, never a traceback of json's."""
    file = tmp_path / ".backprop.json"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        find_file(tmp_path)
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_bytes_that_are_no_text_and_a_folder_are_named(tmp_path: Path) -> None:
    """A binary file and a folder in place of a file are errors with a sentence."""
    file = tmp_path / "a.json"
    file.write_bytes(b"\xff\x00\xfe")
    for path in (file, tmp_path):
        with pytest.raises(ConfigError, match=r"is not valid JSON|is a folder, not a configuration file"):
            load_file(path)


@pytest.mark.parametrize("name", ["backprop.config.json", ".backprop.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link", "device"])
def test_what_has_the_name_of_a_configuration_file_and_is_none_is_named(
    name: str, kind: str, tmp_path: Path
) -> None:
    """A folder, a pipe without a writer, a device or a link to nowhere is an error at once: somebody meant it as one."""
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere" if kind == "dangling link" else "/dev/zero")
    with pytest.raises(ConfigError, match=r"not a configuration file|cannot be read") as caught:
        find_file(tmp_path)
    assert str(path) in str(caught.value)


def test_the_shells_own_pipe_can_be_read(tmp_path: Path) -> None:
    """`--config <(command)` hands over a pipe that is already open: its content holds."""
    reading, writing = os.pipe()
    os.write(writing, b'{"grace": 7}')
    os.close(writing)
    try:
        assert load_file(Path(f"/dev/fd/{reading}"))["grace"].value == 7
    finally:
        os.close(reading)


def test_a_pipe_called_pyproject_is_none_of_our_business(tmp_path: Path) -> None:
    """It is passed over without waiting for a writer."""
    os.mkfifo(tmp_path / "pyproject.toml")
    assert find_file(tmp_path) == {}


def test_the_file_is_looked_for_up_to_the_root_of_the_project(tmp_path: Path) -> None:
    """A folder below sees the project's file; a file above the project's root is not looked at."""
    (tmp_path / "backprop.config.json").write_text('{"maxRunMinutes": 1}')
    project = tmp_path / "project"
    below = project / "src" / "deep"
    below.mkdir(parents=True)
    assert find_file(below)["max-run-minutes"].value == 1
    (project / ".git").mkdir()
    assert find_file(below) == {}
    (project / ".backprop.json").write_text('{"maxRunMinutes": 2}')
    assert find_file(below)["max-run-minutes"].value == 2


def test_somebody_elses_broken_pyproject_is_none_of_our_business(tmp_path: Path) -> None:
    """A pyproject.toml that does not speak of backprop is not even parsed."""
    (tmp_path / "pyproject.toml").write_text("[broken")
    assert find_file(tmp_path) == {}


def test_a_damaged_record_does_not_stop_a_resume(tmp_path: Path) -> None:
    """A remembered value that is not allowed any more is passed over."""
    settings = resolve(
        command_line={}, environ={}, cwd=tmp_path, remembered={"grace": "soon", "max-parallel": 3}
    )
    assert (settings["grace"], settings["max-parallel"]) == (30, 3)
