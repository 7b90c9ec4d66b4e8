"""Two hosts train together, and the link between them is cut: nobody hangs, and a resume continues exactly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.scale.hosts import TwoHosts, torchrun, why_not

SCRIPT = Path(__file__).with_name("loop_on_two_hosts.py")
BOX_S, GRACE_S = 10.0, 8.0
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    if missing := why_not():
        pytest.fail(missing)
    with TwoHosts(tmp_path) as made:
        yield made


class Job:
    """`mpirun -N 1 backprop run --exec torchrun` over two hosts: a governor and an agent on each."""

    def __init__(self, line: CommandLine, hosts: TwoHosts, where: str) -> None:
        self.line, self.hosts, self.where = line, hosts, where
        self.tasks: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def start(self, box_s: float) -> None:
        """Both hosts begin; their output goes to files."""
        number, step = len(self.logs), str(uuid.uuid4())
        self.tasks = []
        for host in (0, 1):
            log = self.line.folder / f"log-{number // 2}-{host}"
            self.logs.append(log)
            agent = torchrun(host, self.hosts.addresses[0], SCRIPT, str(self.line.folder), self.where)
            words = ["run", "-m", f"{box_s}s", "--budget-from", "training", "--grace", f"{GRACE_S}s"]
            words += ["-c", "1s", "--run-id", "two", "--resume-or-start", "--exec", "--", *agent]
            mpi = {"PMIX_NAMESPACE": step, "OMPI_COMM_WORLD_RANK": str(host), "OMPI_COMM_WORLD_SIZE": "2"}
            with log.open("wb") as output:
                self.tasks.append(
                    subprocess.Popen(
                        self.hosts.on(host, [sys.executable, "-m", "backprop_cli", *words]),
                        cwd=self.line.folder,
                        env={
                            **self.line.environment,
                            **mpi,
                            **self.hosts.environment(host),
                            "OMP_NUM_THREADS": "1",
                        },
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                    )
                )

    def ends(self) -> list[int]:
        """The status of each host's command."""
        return [task.wait(300) for task in self.tasks]

    def said(self) -> str:
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')}" for log in self.logs)

    def kill(self) -> None:
        for task in self.tasks:
            if task.poll() is None:
                task.send_signal(signal.SIGKILL)
                task.wait()


@pytest.fixture
def job(tmp_path: Path, hosts: TwoHosts, request: pytest.FixtureRequest) -> Iterator[Job]:
    made = Job(CommandLine(tmp_path), hosts, request.param)
    yield made
    made.kill()


def last_words(text: str) -> set[str]:
    return set(re.findall(r"rank \d: \d+ steps .*", text))


def uncut(folder: Path) -> set[str]:
    """What both ranks say where nothing happens, on one host and without us."""
    one = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(SCRIPT),
        str(folder),
        "nowhere",
    ]
    done = subprocess.run(
        [sys.executable, *one],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return last_words(done.stdout)


@pytest.mark.parametrize("job", ["step", "talk", "save"], indirect=True)
def test_a_link_that_is_cut_costs_the_box_and_no_more(job: Job, tmp_path: Path) -> None:
    """Both commands end by the deadline and the grace, wherever the ranks wait; the same line then trains on, exactly.

    The clocks of the hosts differ by a minute, those that count from boot by two hours.
    """
    line = job.line
    job.start(BOX_S)
    wait_for((line.folder / "reached").exists)
    job.hosts.cut()
    (line.folder / "is-cut").touch()
    cut_at = time.monotonic()
    job.ends()
    took_s = time.monotonic() - cut_at
    assert took_s < BOX_S + 3 * GRACE_S, job.said()
    record = line.record("two")
    assert [one["outcome"] for one in record["attempts"]] == ["timeboxed"], job.said()
    kept = sorted((line.home / "runs" / "two" / "checkpoints").glob("step-*"))
    assert kept
    assert all(json.loads((one / "manifest.json").read_text())["step"] for one in kept)
    job.hosts.mend()
    job.start(600.0)
    assert job.ends() == [0, 0], job.said()
    assert line.record("two")["status"] == "completed"
    assert line.record("two")["attempts"][1]["resumed_from"] or "resum" in job.logs[2].read_text()
    assert last_words(job.said()) == uncut(tmp_path), job.said()
