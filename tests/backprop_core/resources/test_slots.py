"""Slots and admission among real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.errors import StoreError
from backprop_core.resources.admission import NotAdmittedError, Waiting, enter
from backprop_core.resources.policy import Limits
from backprop_core.resources.runtime_dir import runtime_dir
from backprop_core.resources.sampler import Sampler
from backprop_core.resources.samples import GIB, MIB, GpuReading, GpuSample, HostSample
from backprop_core.resources.slots import WARM_UP_S, Queue, QueuePlace, Slots
from backprop_core.resources.tickets import Ticket
from backprop_core.runs.process import ProcessIdentity
from backprop_core.testing.clock import FakeClock


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    end = SYSTEM.monotonic() + timeout_s
    while not condition():
        assert SYSTEM.monotonic() < end, f"not within {timeout_s} s"
        SYSTEM.sleep(0.01)


class Machine:
    """Probes of a machine with as much free memory as is said."""

    name = "fake"

    def __init__(self) -> None:
        self.free_bytes = 64 * GIB
        self.gpus: tuple[GpuSample, ...] = ()

    def sampler(self) -> Sampler:
        host, gpu = self, self

        class HostPart:
            def read(self) -> HostSample:
                return HostSample(64 * GIB, host.free_bytes, "the machine", 0.0, 2)

        class GpuPart:
            name = "fake"

            def read(self) -> GpuReading:
                return GpuReading(gpu.gpus, "fake")

            def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
                return None

            def close(self) -> None:
                pass

        return Sampler(HostPart(), GpuPart(), SYSTEM)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(SYSTEM, environ={"BACKPROP_RUNTIME_DIR": str(tmp_path / "runtime")})


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python code with the slots' folder in its environment."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "BACKPROP_RUNTIME_DIR": str(tmp_path / "runtime")},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def take(place: QueuePlace, limit: int = 2) -> bool:
    """Take a slot if fewer than `limit` are taken and nobody is ahead."""

    def decide(queue: Queue) -> Ticket | None:
        return None if queue.ahead or len(queue.holders) >= limit else place.ticket

    place.step_up(decide)
    return place.running


def test_the_one_who_came_first_is_served_first(slots: Slots) -> None:
    """With one slot, the second waits for the first and the third for the second, whoever asks more often."""
    first, second, third = (slots.enter(f"r{n}") for n in range(3))
    assert not take(third, 1)
    assert not take(second, 1)
    assert take(first, 1)
    assert [ticket.run_id for ticket in slots.holders()] == ["r0"]
    assert not take(third, 1)
    first.release()
    assert not take(third, 1)
    assert take(second, 1)
    second.release()
    second.release()
    assert take(third, 1)
    third.release()
    assert slots.holders() == ()
    assert [path.name for path in slots.directory.iterdir()] == ["queue.lock"]


def test_limits_differ_between_commands(slots: Slots) -> None:
    """Each counts all holders against its own limit."""
    holders = [slots.enter(f"r{n}") for n in range(3)]
    assert all(take(place, 3) for place in holders)
    modest = slots.enter("modest")
    assert not take(modest, 2)
    assert take(modest, 4)
    for place in [*holders, modest]:
        place.release()


WAITER = """
import sys
from backprop_core.clock import SYSTEM
from backprop_core.resources.slots import Slots
place = Slots(SYSTEM).enter(sys.argv[1])
place.step_up(lambda queue: place.ticket if sys.argv[2] == "take" else None)
print("in", flush=True)
sys.stdin.readline()
"""


def test_a_killed_process_leaves_queue_and_slot(
    slots: Slots, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """SIGKILL frees the slot of a holder and the place of a waiting one; their files are swept away."""
    holder = start(WAITER, "holder", "take")
    assert holder.stdout is not None
    holder.stdout.readline()
    waiter = start(WAITER, "waiter", "wait")
    assert waiter.stdout is not None
    waiter.stdout.readline()
    mine = slots.enter("mine")
    assert not take(mine, 1)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not take(mine, 1)
    assert mine.step_up(lambda queue: None).ahead[0].run_id == "waiter"
    waiter.send_signal(signal.SIGKILL)
    waiter.wait()
    assert take(mine, 1)
    mine.release()
    assert not list(slots.directory.glob("ticket-*"))


def test_the_slot_stays_taken_while_the_script_of_a_killed_governor_lives(
    slots: Slots, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """The script saves and ends by itself; until then the machine is as full as it was."""
    script = start("input()")
    governor = start(
        WAITER.replace(
            'print("in"',
            "from backprop_core.runs.process import ProcessIdentity\n"
            'place.name_script(ProcessIdentity.of(int(sys.argv[3])))\nprint("in"',
        ),
        "r",
        "take",
        str(script.pid),
    )
    assert governor.stdout is not None
    assert governor.stdout.readline() == "in\n"
    governor.send_signal(signal.SIGKILL)
    governor.wait()
    mine = slots.enter("mine")
    assert not take(mine, 1)
    script.kill()
    script.wait()
    assert take(mine, 1)
    mine.release()


def test_a_stopped_process_does_not_block_the_queue(tmp_path: Path) -> None:
    """One that waits but has not asked for ten seconds (Ctrl-Z) is passed over, and not forgotten."""
    clock = FakeClock()
    slots = Slots(clock, directory=tmp_path)
    stopped, mine = slots.enter("stopped"), slots.enter("mine")
    assert not take(mine, 1)
    clock.advance(10.5)
    assert take(mine, 1)
    mine.release()
    late = slots.enter("late")
    clock.advance(1.0)
    assert not take(stopped, 0)
    assert not take(late, 1)
    assert take(stopped, 1)
    stopped.release()
    late.release()


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"number": 1}', "\0", "9" * 100_000])
def test_junk_in_the_folder_does_no_harm(slots: Slots, junk: str) -> None:
    """Files that are no tickets are swept away, a damaged counter is made good."""
    (slots.directory / "ticket-000000000001").write_text(junk)
    (slots.directory / "ticket-x").write_text(junk)
    (slots.directory / "queue.lock").write_text(junk)
    place = slots.enter("r")
    assert take(place)
    place.release()
    assert not list(slots.directory.glob("ticket-*"))


def test_a_script_that_cannot_be_seen_does_not_keep_a_slot_for_ever(slots: Slots) -> None:
    """Of another container, say: its governor's lock decides alone."""
    away = slots.enter("away")
    take(away)
    away.name_script(replace(ProcessIdentity.own(), boot_id="other/1", host="elsewhere"))
    assert len(slots.holders()) == 1
    away._lock.forget()
    assert slots.holders() == ()


# -- admission -------------------------------------------------------------------------------------------------


def test_a_run_enters_a_quiet_machine_at_once(slots: Slots, machine: Machine) -> None:
    """No wait, a verdict with its checks, and a slot that is seen by others."""
    admission = enter(slots, machine.sampler(), Limits(), run_id="r", clock=SYSTEM, wait_s=0, environ={})
    assert admission.verdict.admitted
    assert [ticket.run_id for ticket in slots.holders()] == ["r"]
    admission.place.release()


def test_no_wait_is_refused_with_values(slots: Slots, machine: Machine) -> None:
    """Exit status 75's error names the limit, its value and the need, and leaves no ticket."""
    machine.free_bytes = GIB
    with pytest.raises(NotAdmittedError, match="free memory is 1 GB, at least 4 GB needed") as caught:
        enter(slots, machine.sampler(), Limits(), run_id="r", clock=SYSTEM, wait_s=0, environ={})
    assert caught.value.verdict is not None
    assert not caught.value.verdict.admitted
    assert not list(slots.directory.glob("ticket-*"))


def test_waiting_tells_what_for_and_ends_when_it_comes_free(slots: Slots, machine: Machine) -> None:
    """The wait is told from the first look, and over as soon as the next sample shows room."""
    machine.free_bytes = GIB
    told: list[Waiting] = []

    def tell(waiting: Waiting) -> None:
        told.append(waiting)
        machine.free_bytes = 8 * GIB

    admission = enter(
        slots, machine.sampler(), Limits(), run_id="r", clock=SYSTEM, wait_s=60, environ={}, tell=tell
    )
    assert "free memory is 1 GB" in told[0].sentence
    assert admission.waited_s < 30
    admission.place.release()


def test_a_wait_ends_when_its_time_is_over_or_the_user_says_so(slots: Slots, machine: Machine) -> None:
    """With the reason in both cases."""
    other = slots.enter("other")
    with pytest.raises(NotAdmittedError, match=r"Not started after .* 1 run is ahead"):
        enter(slots, machine.sampler(), Limits(), run_id="r", clock=SYSTEM, wait_s=1.2, environ={})
    with pytest.raises(NotAdmittedError, match="wait was ended"):
        enter(
            slots,
            machine.sampler(),
            Limits(),
            run_id="r",
            clock=SYSTEM,
            wait_s=99,
            environ={},
            stop=lambda: True,
        )
    other.release()


def test_runs_started_together_do_not_all_see_the_same_free_memory(slots: Slots, machine: Machine) -> None:
    """10 GB free, 4 GB needed each: two enter, the third is refused until one has warmed up and uses
    little.
    """
    machine.free_bytes = 10 * GIB
    limits = Limits(max_parallel=10)
    sampler = machine.sampler()
    entered = [
        enter(slots, sampler, limits, run_id=f"r{n}", clock=SYSTEM, wait_s=0, environ={}) for n in range(2)
    ]
    with pytest.raises(NotAdmittedError, match="8 GB reserved"):
        enter(slots, sampler, limits, run_id="r2", clock=SYSTEM, wait_s=0, environ={})
    entered[0].place.warmed_up()
    third = enter(slots, sampler, limits, run_id="r2", clock=SYSTEM, wait_s=0, environ={})
    for admission in [*entered, third]:
        admission.place.release()


def test_gpus_are_spread_by_what_is_promised(slots: Slots, machine: Machine) -> None:
    """The second run gets the other GPU although the first has not allocated anything yet."""
    machine.gpus = tuple(
        GpuSample(f"GPU-{n}", f"GPU-{n}", "nvidia", index=n, memory_free_bytes=10_000 * MIB) for n in range(2)
    )
    sampler = machine.sampler()
    first, second = (
        enter(slots, sampler, Limits(), run_id=f"r{n}", clock=SYSTEM, wait_s=0, environ={}) for n in range(2)
    )
    assert first.verdict.environ != second.verdict.environ
    assert second.verdict.environ is not None
    assert second.verdict.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert {ticket.gpu_uuids for ticket in slots.holders()} == {("GPU-0",), ("GPU-1",)}
    first.place.release()
    second.place.release()


def test_a_promise_ends_and_what_is_used_already_is_not_counted_twice(tmp_path: Path) -> None:
    """After the warm-up nothing is promised; before, what the script has taken is taken off."""
    clock = FakeClock()
    slots = Slots(clock, directory=tmp_path)
    place = slots.enter("r")
    own = ProcessIdentity.own()
    promised = replace(place.ticket, ram_bytes=4 * GIB, warm_until_s=clock.monotonic() + WARM_UP_S)
    place.step_up(lambda queue: promised)
    with slots.locked():
        (whole,) = slots.look().reservations(clock.monotonic())
    place.name_script(own)
    with slots.locked():
        queue = slots.look()
    (rest,) = queue.reservations(clock.monotonic())
    assert whole.ram_bytes == 4 * GIB
    assert 0 < rest.ram_bytes < 4 * GIB - 10 * MIB
    assert queue.reservations(clock.monotonic() + WARM_UP_S + 1) == ()
    place.release()


RUNNER = """
import json, os, sys
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.resources.admission import enter
from backprop_core.resources.policy import Limits
from backprop_core.resources.probes import make_sampler
from backprop_core.resources.slots import Slots
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def say(kind):
    os.write(log, (json.dumps([kind, sys.argv[2], os.getpid()]) + "\\n").encode())
limits = Limits(max_parallel=2, min_free_ram_bytes=0, max_load_per_cpu=None)
sampler = make_sampler("none", SYSTEM)
admission = enter(Slots(SYSTEM), sampler, limits, run_id=sys.argv[2], clock=SYSTEM, wait_s=120)
say("in")
if sys.argv[3] == "hang":
    sys.stdin.readline()
SYSTEM.sleep(0.15)
say("out")
admission.place.release()
"""


def test_twenty_processes_share_two_slots_and_none_starves(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Twenty at once with a limit of two: never more than two inside, also when five inside are killed
    with -9.
    """
    log = tmp_path / "log"
    killed = {str(n) for n in range(0, 20, 4)}
    runners = {
        str(n): start(RUNNER, str(log), str(n), "hang" if str(n) in killed else "go") for n in range(20)
    }
    inside: set[str] = set()
    seen: list[str] = []
    read = 0

    def follow() -> bool:
        nonlocal read
        lines = log.read_text().splitlines() if log.exists() else []
        for line in lines[read:]:
            kind, name, _ = json.loads(line)
            if kind == "in":
                inside.add(name)
                seen.append(name)
            else:
                inside.discard(name)
            assert len(inside) <= 2, (inside, line)
        read = len(lines)
        for name in list(inside & killed):
            inside.discard(name)  # out of the books before the kill frees its slot for the next
            runners[name].send_signal(signal.SIGKILL)
        return all(runner.poll() is not None for runner in runners.values())

    wait_until(follow, 120.0)
    follow()
    assert sorted(seen) == sorted(runners)
    assert {name for name, runner in runners.items() if runner.returncode == -signal.SIGKILL} == killed
    assert all(runner.returncode == 0 for name, runner in runners.items() if name not in killed)


# -- where they meet -------------------------------------------------------------------------------------------


def test_the_runtime_folder_is_private_and_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, or in the user's runtime folder, or in the temporary one by user id; mode 0700."""
    named = runtime_dir({"BACKPROP_RUNTIME_DIR": str(tmp_path / "a" / "b")})
    assert named == tmp_path / "a" / "b"
    assert named.stat().st_mode & 0o777 == 0o700
    assert runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "backprop"
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))  # a job's own, which no other process has
    missing = {"XDG_RUNTIME_DIR": str(tmp_path / "gone"), "TMPDIR": str(tmp_path / "elsewhere")}
    if not Path(f"/run/user/{os.geteuid()}").is_dir():
        assert runtime_dir(missing, tmp_path / "tmp") == tmp_path / "tmp" / f"backprop-{os.geteuid()}"


def test_a_name_that_another_user_has_taken_blocks_nobody(tmp_path: Path) -> None:
    """All processes of this user meet in one folder with a name that was drawn, and again elsewhere if that is taken too."""
    usual = tmp_path / f"backprop-{os.geteuid()}"
    usual.write_text("somebody else was here")
    environ = {"BACKPROP_HOME": str(tmp_path / "home")}
    hidden = runtime_dir(environ, tmp_path)
    assert hidden == runtime_dir(environ, tmp_path)
    assert (hidden.parent, hidden.stat().st_mode & 0o777) == (tmp_path, 0o700)
    hidden.rmdir()
    hidden.symlink_to(tmp_path)
    other = runtime_dir(environ, tmp_path)
    assert other not in (hidden, usual)
    assert other == runtime_dir(environ, tmp_path)


def test_a_folder_that_others_can_write_or_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may have made that name in the temporary folder first: a link, a file, an open or
    foreign folder.
    """
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("file", "link", "open"):
        with pytest.raises(StoreError, match="BACKPROP_RUNTIME_DIR"):
            runtime_dir({"BACKPROP_RUNTIME_DIR": str(tmp_path / name)})
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(StoreError, match="not a folder that you own"):
        runtime_dir({"BACKPROP_RUNTIME_DIR": str(tmp_path / "mine")})
