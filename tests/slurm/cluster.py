"""A SLURM of one machine with two nodes, for a test. Needs Debian's slurm-wlm and munge, and root."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import wait_for

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch")

_CONF = """\
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,batch_sched_delay=1,sched_interval=1,sched_min_interval=100000
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=1
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=15
PartitionName=high Nodes=n1,n2 MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""


def _missing() -> str:
    """Why no cluster can be started here, or the empty string."""
    tools = [name for name in TOOLS if shutil.which(name) is None]
    if tools:
        return f"{', '.join(tools)} not installed. Debian: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "a cluster can only be started by root"


class Cluster:
    """Two nodes that are this machine, and two partitions: `low`, whose jobs `high` preempts.

    Args:
        folder: for its state; long paths do no harm.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hurried: dict[str, float] = {}
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Return when both nodes take jobs. The test fails where no cluster can be started, and says what to do."""
        if why := _missing():
            pytest.fail(why, pytrace=False)
        folder = self._folder
        for name in ("munge", "state"):
            (folder / name).mkdir(parents=True)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        ports = _free_ports(3)
        (folder / "slurm.conf").write_text(
            _CONF.format(host=socket.gethostname(), folder=folder, ports=ports)
        )
        munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "--force", f"--socket={folder}/munge/socket", *munge)
        self._run("slurmctld", "-c")
        for node in ("n1", "n2"):
            self._run("slurmd", "-N", node)
        wait_for(lambda: self.said("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D") == "2")

    def stop(self) -> None:
        """End its daemons; their jobs first."""
        self.said("scancel", "-u", "root", "--signal=KILL")
        for name in ("slurmd-n1.pid", "slurmd-n2.pid", "slurmctld.pid", "munge/pid"):
            path = self._folder / name
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)

    def said(self, *argv: str) -> str:
        """What a command of SLURM's prints, whatever its status."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """`RUNNING`, `PENDING`, ...; empty where the job is not known any more."""
        done = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%T"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        is_gone = done.returncode == 0 or "Invalid job id" in done.stderr
        return done.stdout.strip() if is_gone else f"UNKNOWN: {done.stderr.strip()}"

    def over(self, *jobs: str) -> bool:
        """Whether all have left the queue; one that is back in it does not wait the two minutes that SLURM wants it to.

        It waits for three seconds: started within the second of its requeue it is refused by its node, and gone.
        """
        states = {job: self.state(job) for job in jobs}
        for job in (job for job, state in states.items() if state == "PENDING"):
            if SYSTEM.monotonic() - self._hurried.get(job, -math.inf) > 10.0:
                self._hurried[job] = SYSTEM.monotonic()
                self.said("scontrol", "update", f"JobId={job}", "StartTime=now+3")
        return not any(states.values())

    def submit(self, *argv: str, cwd: Path, environment: dict[str, str] | None = None) -> str:
        """The id of a new job."""
        done = subprocess.run(
            ["sbatch", "--parsable", *argv],
            env={**self.environment, **(environment or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip()

    def _run(self, *argv: str) -> None:
        subprocess.run(argv, env=self.environment, check=True, timeout=60, stdout=subprocess.DEVNULL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
