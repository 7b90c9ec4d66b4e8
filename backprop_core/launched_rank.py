"""Which of the processes of one training this is, as its launcher says; loaded at every start of a script."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MACHINE = 1000
"""Lightning's launcher tells no rank over all machines: processes of another machine get numbers from here on."""


def launched_rank(environ: "Mapping[str, str]") -> int | None:
    """The rank; None where no launcher has started this process.

    torchrun and its like tell it in RANK. Lightning, and Fabric with it, starts the other processes of a machine from the
    first one, which was started by nobody, and tells them LOCAL_RANK alone.
    """
    rank = environ.get("RANK", "")
    if rank.isdigit():
        return int(rank)
    local, machine = environ.get("LOCAL_RANK", ""), environ.get("NODE_RANK", "")
    if not local.isdigit() and not machine.isdigit():
        return None
    return int(local if local.isdigit() else 0) + _MACHINE * int(machine if machine.isdigit() else 0)


def is_first(environ: "Mapping[str, str]") -> bool:
    """Whether this is the first process of its training, or the only one."""
    return not launched_rank(environ)
