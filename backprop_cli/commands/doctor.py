"""`backprop doctor`: what is installed, what works, what the probes see, and what is misconfigured."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec

import click

from backprop_cli.detection import lacks_backprop
from backprop_cli.interpreter import find_interpreter
from backprop_cli.namesake import namesake
from backprop_cli.opening import settings_for
from backprop_cli.parameters import working_folder
from backprop_core import __version__, contract
from backprop_core.clock import SYSTEM
from backprop_core.config.options import OPTIONS
from backprop_core.config.sources import Settings
from backprop_core.errors import BackpropError

_LIBRARIES = (
    "torch",
    "lightning",
    "pytorch-lightning",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "transformers",
    "accelerate",
    "numpy",
    "nvidia-ml-py",
)
_ADAPTERS = {
    "backprop_torch": ("torch",),
    "backprop_lightning": ("pytorch_lightning", "lightning"),
    "backprop_fabric": ("lightning", "lightning_fabric"),
    "backprop_keras": ("keras",),
    "backprop_transformers": ("transformers",),
}
"""Each with the packages of which it needs one."""
_BROKEN_LIGHTNING = ("2.6.2", "2.6.3")
_LEAST_FREE_BYTES = 1 << 30

Finding = tuple[str, str]
"""`ok`, `note` or `wrong`, and a sentence."""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quick", is_flag=True, help="Skip importing the frameworks, which takes seconds.")
def command(as_json: bool, quick: bool) -> int:
    """Check the installation, the settings and the machine. The exit status is 1 if something is wrong.

    \b
    Examples:
      backprop doctor
      backprop doctor --quick --json
    """
    findings = list(examine(quick=quick))
    if as_json:
        import json

        click.echo(json.dumps([{"kind": kind, "text": text} for kind, text in findings], indent=2))
    else:
        for kind, text in findings:
            click.echo(f"{kind:<6}{text}")
    return 1 if any(kind == "wrong" for kind, _ in findings) else 0


def examine(*, quick: bool = False) -> Iterator[Finding]:
    """Everything that was found, in the order of reading."""
    yield (
        "ok",
        f"backprop {__version__}, Python {platform.python_version()} ({sys.executable}), {platform.platform()}",
    )
    if other := namesake():
        yield "wrong", other
    yield from _libraries()
    yield from _adapters()
    if not quick:
        yield from _imports()
        yield from _callbacks()
    yield from _home()
    yield from _variables()
    try:
        settings = settings_for({}, cwd=working_folder(), config=None)
    except BackpropError as error:
        yield "wrong", str(error)
        return
    yield (
        "ok",
        f"settings: {len(settings.stated())} set, the rest at their defaults ('backprop config' shows them)",
    )
    yield from _interpreter(settings)
    yield from _machine(settings)


def _interpreter(settings: Settings) -> Iterator[Finding]:
    """What runs scripts here, and whether backprop can attach itself to them there."""
    try:
        interpreter = find_interpreter(settings["python"])
    except BackpropError as error:
        yield "wrong", str(error)
        return
    why = f" (from {interpreter.source})" if interpreter.source else ""
    if lacks_backprop(interpreter.path):
        yield (
            "note",
            (
                f"Scripts run with {interpreter.path}{why}, which has no backprop, so they are only governed from outside. "
                f"For checkpoints and an exact resume: {interpreter.path} -m pip install backprop-timebox"
            ),
        )
    else:
        yield "ok", f"scripts run with {interpreter.path}{why}"


def _libraries() -> Iterator[Finding]:
    for name in _LIBRARIES:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if name in ("lightning", "pytorch-lightning") and found in _BROKEN_LIGHTNING:
            yield "wrong", f"{name} {found} was compromised by an attacker: install another version."
        else:
            yield "ok", f"{name} {found}"


def _adapters() -> Iterator[Finding]:
    for package, needs in _ADAPTERS.items():
        if find_spec(package) is None:
            continue
        there = any(map(_is_installed, needs))
        yield (
            "ok" if there else "note",
            f"{package}: {'ready' if there else f'waits for {needs[0]} to be installed'}",
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


def _imports() -> Iterator[Finding]:
    """Whether what we know of each installed framework loads. An entry point is named after the framework's module."""
    for entry in entry_points(group="backprop.frameworks"):
        if not _is_installed(entry.name):
            continue
        try:
            entry.load()
        except Exception as error:  # a plugin may fail in any way
            yield "wrong", f"The framework {entry.name} ({entry.value}) does not load: {error!r:.200}."


def _callbacks() -> Iterator[Finding]:
    """Whether each adapter whose framework is installed can be used: its callback, which imports the framework."""
    for package, needs in _ADAPTERS.items():
        if find_spec(package) is None or not any(map(_is_installed, needs)):
            continue
        try:
            module = import_module(package)
            _ = getattr(module, "BackpropCallback", None)
        except Exception as error:  # a framework may fail in any way
            yield "wrong", f"{package} does not load: {error!r:.200}."


def _home() -> Iterator[Finding]:
    from backprop_core.resources.runtime_dir import runtime_dir
    from backprop_core.runs.home import backprop_home

    for name, find in (("home", backprop_home), ("runtime folder", runtime_dir)):
        try:
            path = find(os.environ)
            free = shutil.disk_usage(path).free
        except (BackpropError, OSError) as error:
            yield "wrong", str(error)
            continue
        kind = "ok" if free >= _LEAST_FREE_BYTES or name != "home" else "note"
        yield kind, f"{name} {path}, {free / 1024**3:.1f} GB free"


def _variables() -> Iterator[Finding]:
    known = {*contract.OF_ONE_ATTEMPT, contract.RUNTIME_DIR, *(option.env for option in OPTIONS)}
    for name in sorted(os.environ):
        if name.startswith(contract.PREFIX) and name not in known:
            yield "note", f"{name} is set, but backprop has no option of that name."


def _machine(settings: Settings) -> Iterator[Finding]:
    from backprop_cli.resources import Resources
    from backprop_core.governor import kernel

    try:
        resources = Resources(settings)
        sample, verdict, _ = resources.look()
        resources.close()
    except BackpropError as error:
        yield "wrong", str(error)
        return
    gpus = sample.gpu.gpus
    seen = "unknown" if gpus is None else f"{len(gpus)} seen"
    yield "ok", f"GPUs: {seen} by the probe {sample.gpu.probe}"
    yield from (("note", note) for note in verdict.notes)
    yield from (("note", f"Not checked: {check.sentence}.") for check in verdict.unchecked)
    if verdict.admitted:
        yield "ok", "A run may start now."
    else:
        yield "note", f"A run would have to wait now: {verdict.sentence}."
    if not kernel.LINUX:
        yield (
            "note",
            "Not Linux: daemonized children of a run cannot be cleaned up, and only the keeper notices a killed governor.",
        )
    drift = abs(SYSTEM.wall()) < 1.6e9
    if drift:
        yield "wrong", "The system clock is before 2020: fixed deadlines will be wrong."
