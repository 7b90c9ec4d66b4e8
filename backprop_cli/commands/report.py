"""`backprop report RUN`: everything about a run on one page."""

from __future__ import annotations

from pathlib import Path

import click

from backprop_cli.opening import open_store, tell, tell_warnings
from backprop_cli.parameters import complete_files, complete_runs
from backprop_cli.paths import check_can_write, given, write_output
from backprop_core.clock import SYSTEM
from backprop_core.errors import StoreError, UsageError
from backprop_core.history.run_history import run_history
from backprop_core.provenance.attempt_provenance import read_provenance
from backprop_core.runs.labels import NO_LABELS, read_labels
from backprop_core.runs.liveness import with_live_news
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore


@click.command("report")
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "-o",
    "--output",
    callback=given,
    metavar="FILE",
    help="Output file; - is standard output  [default: ./backprop-RUN.html]",
    shell_complete=complete_files,
)
@click.option("--text", "as_text", is_flag=True, help="Draw the curves in the terminal instead.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.option("--verify", is_flag=True, help="Verify every byte of the checkpoints, and show the result.")
def command(run: str, output: str | None, as_text: bool, opens: bool, verify: bool) -> int:
    """Write a report of RUN on one page: curves, time, boxes, checkpoints, pauses, environment.

    The page is one self-contained HTML file; it needs no network.

    \b
    Examples:
      backprop report 20261123-154248-k3f9 --open
      backprop report 20261123-154248-k3f9 -o baseline.html --verify
      backprop report 20261123-154248-k3f9 --text
    """
    from backprop_cli.report.facts import Report

    if as_text and (opens or output):
        raise UsageError(
            "--text writes no page, so --output and --open have no effect.", "Leave one of them out."
        )
    if opens and output == "-":
        raise UsageError("--open needs a file.", "Give --output its name, or leave it out.")
    store = open_store(write=False)
    record = store.load(run)
    tell_warnings(store)
    folder = None if record.foreign else store.run_dir(record.id)
    record = record if folder is None else with_live_news(record, folder)
    history = run_history(folder or store.home, record, SYSTEM.wall())
    labels = NO_LABELS if folder is None else read_labels(folder)
    numbers = () if folder is None else range(1, len(record.attempts) + 1)
    started = {n: kept for n in numbers if (kept := read_provenance(store.run_dir(record.id), n)) is not None}
    verified = _verified(store, record) if verify else {}
    report = Report(history, labels, verified, SYSTEM.wall(), started)
    if as_text:
        from backprop_cli.report.terminal import show_text

        show_text(report)
        return 0
    from backprop_cli.report.page import page

    content = page(report)
    if output == "-":
        click.echo(content, nl=False)
        return 0
    path = Path(output or f"backprop-{record.id}.html").expanduser().absolute()
    check_can_write("--output", str(path))
    _write(path, content)
    click.echo(str(path))
    if opens:
        _open(path)
    return 0


def _write(path: Path, content: str) -> None:
    try:
        write_output(path, content.encode("utf-8"))
    except StoreError as error:
        raise StoreError(
            error.what, "Give --output a file in an existing folder that you can write to.", path=path
        ) from error


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.as_uri()):
        tell("No browser could be opened; the line above says where the page is.")


def _verified(store: RunStore, record: RunRecord) -> dict[str, str]:
    """The damage of each checkpoint of our own format that is there; an empty text for one that is whole."""
    from backprop_cli.checkpoints import committed, damage_in, is_own, is_remote

    known = [path for path in record.checkpoints if not is_remote(path) and is_own(path)]
    known += [str(path) for path in committed(store.checkpoints_dir(record))]
    return {path: damage_in(path) for path in dict.fromkeys(known)}
