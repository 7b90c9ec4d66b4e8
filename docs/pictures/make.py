"""The pictures of the pages in docs/: `python docs/pictures/make.py`, in the environment of `make test`, with Chromium.

Names behind it make these alone: `python docs/pictures/make.py report tensorboard`. The report is that of a made-up run of
three boxes, written by the real store and logs. All others show real trainings of up to two minutes. For trackers.png MLflow
is installed into `.versions/` first.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from terminal import still  # noqa: E402

from tests.backprop_cli.report import chromium  # noqa: E402
from tests.backprop_cli.report.made_up_run import make_run  # noqa: E402
from tests.backprop_sinks.mlflow_server import mlflow_server  # noqa: E402

HERE = Path(__file__).parent
TRAINING = """
import time
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import backprop
from backprop_torch import BudgetLR

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
loader = DataLoader(data, batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
box = backprop.timebox(model=model, optimizer=optimizer)
scheduler = BudgetLR(optimizer, box, warmup=0.05)
with box:
    for epoch in box.epochs(10**6):
        for x, y in box.batches(loader):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            box.log(loss=loss)
            time.sleep(0.02)
"""


class Scene:
    """A folder with one real run in it, made when it is first asked for; one browser for all pictures."""

    def __init__(self, folder: Path, page: chromium.Page) -> None:
        self.folder = folder
        self.page = page
        self.environment = {
            **os.environ,
            "BACKPROP_HOME": str(folder / "home"),
            "BACKPROP_RUNTIME_DIR": str(folder / "runtime"),
            "BACKPROP_MAX_LOAD": "1000",
            "BACKPROP_MIN_FREE_RAM": "0.2",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
        }
        self.watched: list[str] = []

    def backprop(self, *words: str, check: bool = True) -> list[str]:
        """What a command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "backprop_cli", *words],
            env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, text=True, check=check,
        )  # fmt: skip
        return [self.anywhere(line) for line in done.stdout.splitlines()]

    def anywhere(self, text: str) -> str:
        """A text without the folders of this machine."""
        return text.replace(str(self.folder), "~").replace(sys.prefix, "~/venv")

    def train(self) -> None:
        """Two boxes of one total; `status --watch` is looked at in the second."""
        if self.watched:
            return
        (self.folder / "digits.py").write_text(TRAINING)
        words = ["run", "digits.py", "--run-id", "digits", "--sink", "tensorboard:logs"]
        words += ["--until-done", "--total", "80s", "-m", "45s"]
        process = subprocess.Popen(
            [sys.executable, "-m", "backprop_cli", *words], env=self.environment, cwd=self.folder
        )
        second = self.folder / "home/runs/digits/attempts/2/events.jsonl"
        while process.poll() is None and (not second.exists() or second.read_text().count('"progress"') < 15):
            time.sleep(1)
        watch = subprocess.Popen(
            [sys.executable, "-m", "backprop_cli", "status", "digits", "--watch"],
            env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert watch.stdout is not None
        for line in watch.stdout:
            self.watched.append(self.anywhere(line.rstrip("\n")))
            if line.startswith("loss  "):
                break
        watch.terminate()
        watch.wait()
        process.wait()

    def photograph(self, name: str, width: int, height: int) -> None:
        (HERE / f"{name}.png").write_bytes(self.page.picture(width, height))


def report(scene: Scene) -> None:
    """report-light.png and report-dark.png: a made-up run of three boxes."""
    make_run(scene.folder / "home", "made", seconds=1200, name="digits, learning rate 0.1")
    scene.backprop("report", "made", "-o", "made.html")
    scene.page.open(scene.folder / "made.html")
    for scheme in ("light", "dark"):
        _colours(scene, scheme)
        scene.photograph(f"report-{scheme}", 1100, 900)
    _colours(scene, "light")


def tensorboard(scene: Scene) -> None:
    """tensorboard.png: TensorBoard's own page of what its sink has written over two boxes."""
    scene.train()
    with _serving(
        "tensorboard.main", "--logdir", "logs", "--load_fast", "false", folder=scene.folder
    ) as address:
        scene.page.visit(f"{address}/?darkMode=false&tagFilter=loss&smoothing=0#timeseries")
        _until(lambda: scene.page.value("document.querySelectorAll('line-chart').length > 0"))
        scene.page.value(
            "[...document.querySelectorAll('button')].find(one => one.innerText.includes('Settings')).click()"
        )
        time.sleep(5)  # the chart is drawn on a canvas, of which nothing can be asked
        scene.photograph("tensorboard", 1100, 560)


def schedule(scene: Scene) -> None:
    """schedule.png: the learning rate in the report of the same run."""
    scene.train()
    scene.backprop("report", "digits", "-o", "digits.html")
    scene.page.open(scene.folder / "digits.html")
    _colours(scene, "light")
    found = scene.page.value(
        "(() => { const one = [...document.querySelectorAll('figure.by-step')]"
        ".find(one => one.innerText.includes('learning_rate'));"
        " document.body.replaceChildren(one); return one !== undefined; })()"
    )
    assert found
    scene.photograph("schedule", 900, 500)


def curves(scene: Scene) -> None:
    """curves.svg: `backprop report RUN --text`."""
    scene.train()
    shown = scene.backprop("report", "digits", "--text")
    _terminal("curves", "backprop report digits --text", shown[:34])


def programs(scene: Scene) -> None:
    """hooks.svg and json.svg: what a hook wrote at the end of a box, and the object that the same command ended with."""
    (scene.folder / "boxed.py").write_text(TRAINING)
    told = '"$BACKPROP_EVENT_RUN_ID: $BACKPROP_EVENT_OUTCOME at step $BACKPROP_EVENT_STEP"'
    on_end = f"echo {told} >> {scene.folder}/ends.txt"
    words = ["run", "boxed.py", "--run-id", "boxed", "-m", "45s"]
    shown = scene.backprop(*words, "--json", "--on-end", on_end)
    _terminal("json", f"backprop {' '.join(words)} --json | python -m json.tool", _pretty(shown[-1]))
    lines = [
        ("command", f"$ backprop {' '.join(words)} \\"),
        ("command", f"    --on-end 'echo {told} >> ends.txt'"),
    ]
    lines += [
        ("command", "$ cat ends.txt"),
        *(("plain", line) for line in (scene.folder / "ends.txt").read_text().splitlines()),
    ]
    (HERE / "hooks.svg").write_text(still(lines), encoding="utf-8")


def _pretty(line: str) -> list[str]:
    return json.dumps(json.loads(line), indent=2).splitlines()


def watch(scene: Scene) -> None:
    """watch.svg: `backprop status RUN --watch`, while it trains."""
    scene.train()
    _terminal("watch", "backprop status digits --watch", scene.watched)


def trackers(scene: Scene) -> None:
    """trackers.png: the page of an MLflow server of a script that logs to it by itself, over two boxes."""
    from mlflow import MlflowClient

    script = TRAINING.replace("import torch\n", "import mlflow\nimport torch\n", 1)
    logged = '            mlflow.log_metric("loss", loss.item(), step=scheduler.last_epoch)\n'
    (scene.folder / "tracked.py").write_text(
        script.replace("            time.sleep", f"{logged}            time.sleep")
    )
    with mlflow_server(scene.folder) as address:
        scene.environment["MLFLOW_TRACKING_URI"] = address
        scene.backprop(
            "run",
            "tracked.py",
            "--run-id",
            "tracked",
            "--until-done",
            "--total",
            "80s",
            "-m",
            "45s",
            check=False,
        )
        (run,) = MlflowClient(address).search_runs(["0"])
        scene.page.visit(f"{address}/#/experiments/0/runs/{run.info.run_id}/model-metrics")
        _until(lambda: scene.page.value("document.querySelectorAll('.js-plotly-plot').length > 0"))
        time.sleep(5)  # the chart is drawn bit by bit
        scene.photograph("trackers", 1100, 640)


def diff(scene: Scene) -> None:
    """diff.svg: two real runs of a script in a git repository, changed between them without a commit."""
    script = scene.folder / "compared.py"
    (scene.folder / ".gitignore").write_text("*\n")
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for words in (["init", "-q"], ["add", "--force", "compared.py"], ["commit", "-q", "-m", "first"]):
        script.write_text(TRAINING)
        subprocess.run([*git, *words], cwd=scene.folder, check=True)
    for name, rate in (("one", "0.3"), ("other", "0.1")):
        script.write_text(TRAINING.replace("lr=0.3", f"lr={rate}"))
        scene.backprop("run", "compared.py", "--run-id", name, "-m", "20s")
    _terminal("diff", "backprop diff one other", scene.backprop("diff", "one", "other")[:34])


def notebook(scene: Scene) -> None:
    """notebook.png: the boxed cell of the example notebook, run by a real kernel, with what the kernel has sent."""
    import nbformat
    from nbclient import NotebookClient

    os.environ["BACKPROP_HOME"] = scene.environment["BACKPROP_HOME"]
    os.environ["PYTHONPATH"] = str(ROOT)
    found = nbformat.read(ROOT / "examples/notebooks/digits.ipynb", as_version=4)
    cell = next(cell for cell in found.cells if cell.source.startswith("%%timebox"))
    cell.source = cell.source.replace("%%timebox 2m", "%%timebox 12s").replace("range(10)", "range(1000)")
    NotebookClient(found, timeout=300, kernel_name="python3").execute()
    parts = [f"<pre class=cell>{html.escape(cell.source)}</pre>"]
    for output in cell.outputs:
        data = output.get("data", {})
        told = html.escape(scene.anywhere(output.get("text", data.get("text/plain", ""))))
        parts.append(data.get("text/html") or f"<pre>{told}</pre>")
    style = (
        "body{font:14px sans-serif;margin:24px;color:#222}pre{font:13px ui-monospace,monospace;margin:8px 0;"
        "white-space:pre-wrap}.cell{background:#f5f5f5;border:1px solid #ddd;padding:10px}"
    )
    page = f"<!doctype html><meta charset=utf-8><style>{style}</style>{''.join(parts)}"
    (scene.folder / "notebook.html").write_text(page, encoding="utf-8")
    scene.page.open(scene.folder / "notebook.html")
    scene.photograph("notebook", 860, 500)


def _terminal(name: str, typed: str, shown: list[str]) -> None:
    lines = [("command", f"$ {typed}"), *(("plain", line) for line in shown)]
    (HERE / f"{name}.svg").write_text(still(lines), encoding="utf-8")


def _colours(scene: Scene, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    scene.page.ask("Emulation.setEmulatedMedia", features=features)


@contextlib.contextmanager
def _serving(module: str, *words: str, folder: Path) -> Iterator[str]:
    """A server of this machine's, by `python -m`; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words, "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        start_new_session=True,
    )
    try:
        _until(lambda: _answers(port) or process.poll() is not None)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)


PICTURES = {
    one.__name__: one
    for one in (report, diff, tensorboard, schedule, curves, programs, watch, trackers, notebook)
}


def main() -> None:
    """Write the pictures beside this file."""
    asked = sys.argv[1:] or list(PICTURES)
    if unknown := set(asked) - set(PICTURES):
        sys.exit(f"There is no picture {json.dumps(sorted(unknown))}: {', '.join(PICTURES)}.")
    with tempfile.TemporaryDirectory() as name, chromium.chromium(Path(name) / "profile") as page:
        scene = Scene(Path(name), page)
        for one in asked:
            print(one, flush=True)
            PICTURES[one](scene)


if __name__ == "__main__":
    main()
