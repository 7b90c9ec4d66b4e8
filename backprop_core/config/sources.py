"""Settings from configuration files, environment and command line: found, checked, and each with its origin.

The command line holds over the environment, that over the file, that over the default.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from backprop_core.config.options import OPTIONS, Option
from backprop_core.errors import ConfigError
from backprop_core.quick_dataclass import dataclass

JSON_NAMES = ("backprop.config.json", ".backprop.json")
PYPROJECT = "pyproject.toml"
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from, in words such as `BACKPROP_GRACE` or a file's path and key."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All options by name."""

    by_name: Mapping[str, Setting]

    def __getitem__(self, name: str) -> Any:
        return self.by_name[name].value

    def stated(self) -> dict[str, Any]:
        """The values that somebody chose, without the defaults."""
        return {name: setting.value for name, setting in self.by_name.items() if setting.origin != "default"}

    def plain(self) -> dict[str, Any]:
        """All values by name."""
        return {name: setting.value for name, setting in self.by_name.items()}


def resolve(
    *,
    command_line: Mapping[str, Any],
    environ: Mapping[str, str],
    cwd: Path,
    file: Path | None = None,
    remembered: Mapping[str, Any] | None = None,
) -> Settings:
    """Put every option's value together.

    Args:
        command_line: raw values by option name; None means not given.
        environ: where `BACKPROP_<OPTION>` is looked up.
        cwd: the folder from which a configuration file is looked for, upwards to the root of the project.
        file: a configuration file named by the user, instead of looking.
        remembered: values of an earlier attempt; they hold over environment and file, not over the command
            line.

    Raises:
        ConfigError: an unknown key, a value that is not allowed, or a file that cannot be read.
    """
    from_file = load_file(file) if file is not None else find_file(cwd)
    settings = {}
    for option in OPTIONS:
        settings[option.name] = (
            _stated(option, command_line.get(option.name), f"--{option.name}")
            or _remembered(option, remembered or {})
            or _stated(option, environ.get(option.env) or None, option.env)
            or from_file.get(option.name)
            or Setting(option.default, "default")
        )
    return Settings(settings)


def find_file(cwd: Path) -> dict[str, Setting]:
    """The settings of the nearest configuration file: in `cwd`, or above it up to the root of the project
    (`.git`).

    Raises:
        ConfigError: as `load_file` does. A folder or a pipe of that name is such an error, too: somebody meant it.
    """
    for folder in (cwd, *cwd.parents):
        for name in JSON_NAMES:
            if _is_there(folder / name):
                return load_file(folder / name)
        if _has_table(folder / PYPROJECT):
            return load_file(folder / PYPROJECT)
        if (folder / ".git").exists():
            break
    return {}


def load_file(path: Path) -> dict[str, Setting]:
    """The settings of one configuration file, by option name.

    Raises:
        ConfigError: it cannot be read, is no JSON or TOML, has an unknown key or a value that is not allowed.
    """
    in_toml = path.suffix == ".toml"
    content = _table(path) if in_toml else _parse(path, json.loads)
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}, not an object with keys.",
            'For example: {"maxRunMinutes": 30}.',
        )
    known = {option.kebab_key if in_toml else option.key: option for option in OPTIONS}
    settings = {}
    for key, raw in _flat(content, {name.partition(".")[0] for name in known if "." in name}):
        if key not in known:
            raise ConfigError(f"{path}: {key!r} is not a known key.", _near(key, known))
        option = known[key]
        settings[option.name] = Setting(_checked(option, raw, f"{path}: {key}"), f"{path} ({key})")
    return settings


def _flat(content: Mapping[str, Any], groups: Iterable[str]) -> list[tuple[str, Any]]:
    rows = []
    for key, raw in content.items():
        if key in groups and isinstance(raw, dict):
            rows += [(f"{key}.{inner}", value) for inner, value in raw.items()]
        elif key != "$schema":
            rows.append((key, raw))
    return rows


def _near(key: str, known: Iterable[str]) -> str:
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(key.lower(), [name.lower() for name in names], n=1)
    if near:
        return f"Did you mean {next(name for name in names if name.lower() == near[0])!r}?"
    return f"Allowed keys: {', '.join(names)}."


def _stated(option: Option, raw: Any, origin: str) -> Setting | None:
    return None if raw is None else Setting(_checked(option, raw, origin), origin)


def _remembered(option: Option, values: Mapping[str, Any]) -> Setting | None:
    """A value from a run's record; one that is not allowed any more (a damaged record) is passed over."""
    if option.name not in values:
        return None
    try:
        return Setting(option.parse(values[option.name]), "the run's record")
    except (ValueError, TypeError, OverflowError):
        return None


def _checked(option: Option, raw: Any, where: str) -> Any:
    try:
        return option.parse(raw)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{where} is {_shown(raw)}.", f"It must be {option.allowed}.") from error


def _shown(raw: Any) -> str:
    if isinstance(raw, list | tuple) and len(raw) == 1:  # one word of an option that may be repeated
        raw = raw[0]
    shown = json.dumps(raw, default=str, ensure_ascii=False)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _table(path: Path) -> Any:
    import tomllib  # late: most projects have no such file

    content = _parse(path, tomllib.loads)
    tool = content.get("tool", {})
    return tool.get("backprop", {}) if isinstance(tool, dict) else {}


def _is_there(path: Path) -> bool:
    """Whether anything has this name, be it a folder or a link that leads nowhere; False where nobody can tell."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _has_table(path: Path) -> bool:
    """Whether a pyproject.toml speaks of backprop; somebody else's broken file is none of our business."""
    try:
        return path.is_file() and b"tool.backprop" in path.read_bytes() and bool(_table(path))
    except OSError:
        return False


def _parse(path: Path, parser: Any) -> Any:
    try:
        _check_kind(path)
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise ConfigError(f"{path} is larger than 1 MiB.", "Give a configuration file.")
        return parser(content.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}.", "Check the path, its owner and its mode."
        ) from error
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ConfigError(f"{path} is not valid {kind}: {error}.", "Correct it or move it away.") from error


def _check_kind(path: Path) -> None:
    """Raise ConfigError for what is no file. A pipe that this process already has open is one: `--config <(command)`."""
    mode = path.stat().st_mode
    already_open = stat.S_ISFIFO(mode) and os.path.realpath(path).startswith(("/proc/", "/dev/fd/"))
    if not stat.S_ISREG(mode) and not already_open:
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ConfigError(
            f"{path} is {kind}, not a configuration file.", "Move it away, or name a file with --config."
        )
