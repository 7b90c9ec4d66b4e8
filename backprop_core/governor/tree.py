"""The script's whole family: found, signalled, swept, so that nothing of it is left.

Members are the script, its descendants, whoever is in its session, and (where the governor is a subreaper)
the orphans that the kernel handed to the governor. A worker in a session of its own, as torchrun makes them,
is found as a descendant as long as the chain of its parents lives, and as an orphan after that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress

from backprop_core.governor import kernel

Row = tuple[int, int, str]


def members(
    table: Mapping[int, Row], root: int, *, governor: int | None, spared: Collection[int] = ()
) -> set[int]:
    """The pids of the script's family in a process table; zombies included.

    Args:
        table: pid to (parent, session, state), see `kernel.process_table`.
        root: pid of the script, which is also the id of its session.
        governor: pid of the governor, whose own children outside its session are orphans that it was handed;
            None if whoever looks is no governor.
        spared: pids that are never members, such as the keeper's.
    """
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found = {pid for pid, (_, session, _) in table.items() if root in (session, pid)}
    if governor is not None and governor in table:
        own_session = table[governor][1]
        found.update(pid for pid in children.get(governor, ()) if table[pid][1] != own_session)
    found.difference_update(spared)
    queue = list(found)
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in found and child not in spared and child != governor:
                found.add(child)
                queue.append(child)
    return found


class Family:
    """The processes of one script, seen from its governor.

    Args:
        root: pid of the script.
        governor: see `members`; the keeper, which is nobody's subreaper, passes None.
    """

    def __init__(self, root: int, *, governor: int | None, spared: Collection[int] = ()) -> None:
        self.root = root
        self._governor = governor
        self._spared = set(spared)
        self._seen: set[int] = set()

    def spare(self, pid: int) -> None:
        """Never touch this process."""
        self._spared.add(pid)

    def alive(self) -> set[int]:
        """The pids that still run (zombies do not)."""
        return self.look()[0]

    def look(self) -> tuple[set[int], set[int]]:
        """The pids that still run, and those of zombies; zombies that were handed to the governor are reaped.

        Only a look that finds neither proves that nobody is left. A process that ended between the listing of the
        processes and the reading of its state may have left a child that is in no list; but somebody above that child
        is then still here as a zombie.
        """
        table = kernel.process_table()
        found = members(table, self.root, governor=self._governor, spared=self._spared)
        zombies = {pid for pid in found if table[pid][2] in ("Z", "X")}
        for pid in zombies:
            if pid != self.root and self._governor is not None and table[pid][0] == self._governor:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        return found - zombies, zombies

    def reap(self) -> None:
        """Reap dead orphans that were handed to the governor, as PID 1 has to; a system call where there is none.

        A dead child in the governor's own session is one that it has started: that is left to whoever waits for it.
        """
        while (pid := kernel.dead_child()) and pid != self.root and pid not in self._spared:
            if kernel.session_of(pid) == kernel.session_of(os.getpid()):
                return
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def near(self) -> set[int]:
        """The script and its descendants, found cheaply; for watching, where an orphan may be missed."""
        found = kernel.descendants(self.root)
        return self.alive() if found is None else found - self._spared

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every member, the script first."""
        for pid in sorted(self.alive(), key=lambda pid: (pid != self.root, pid)):
            send(pid, number)

    def wake(self) -> None:
        """SIGCONT to every member, if any is stopped: one that is not could have a write cut short by it."""
        table = kernel.process_table()
        found = members(table, self.root, governor=self._governor, spared=self._spared)
        if any(table[pid][2] in ("T", "t") for pid in found):
            self.signal_all(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL every member, again until a look finds none that could have been born meanwhile."""
        with suppress(OSError):
            os.killpg(self.root, signal.SIGKILL)
        for _ in range(20):
            alive = self.alive()
            for pid in alive:
                send(pid, signal.SIGKILL)
            if not alive - self._seen:
                return
            self._seen |= alive


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal to one process; False if it is gone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
