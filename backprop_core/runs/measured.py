"""What is measured in an attempt: for the next one's forecast, of the session by itself, by the governor from outside.

In a record they stand in one object, `measured`: the parts of the first two beside one another, the governor's under
`governor`, its peaks beside it. Files of every version read so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import as_duration, as_list, as_number, as_object, as_text, as_whole

_SESSION = ("framework", "attached", "slack_s", "used_s", "reserve_s")
_PEAKS = ("peak_rss_bytes", "peak_gpu_bytes")


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """The session inside the script.

    Attributes:
        framework: of its adapter, or None without a session.
        attached: the script did not ask for it.
        slack_s: seconds that were left until the deadline when it was over.
        used_s: seconds since its box began.
        reserve_s: seconds that were kept back for a last step, the save and the exit; None in records of older versions.
    """

    framework: str | None = None
    attached: bool = False
    slack_s: float | None = None
    used_s: float | None = None
    reserve_s: float | None = None


@dataclass(frozen=True, slots=True)
class PauseFacts:
    """A time in which the script was held up: why, and seconds; None for one that lasted to the end."""

    why: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GovernorFacts:
    """The attempt as seen from outside.

    Attributes:
        waited_s: seconds for resources, before the start; None in records of older versions.
        used_s: seconds from the start until the last process was gone, pauses included.
        unused_s: seconds left until the deadline then.
        killed: the governor used SIGKILL.
        cause: why it asked the script to end, or None.
        leftovers: processes of the script that had to be ended after it.
        first_step: the first step that the script printed, or None.
        output_lost_bytes: of its output that could not be kept.
        pauses: when it was held up.
        peak_rss_bytes, peak_gpu_bytes: what the script and its children took at most; None where it is not known.
    """

    waited_s: float | None = None
    used_s: float | None = None
    unused_s: float | None = None
    killed: bool = False
    cause: str | None = None
    leftovers: int = 0
    first_step: int | None = None
    output_lost_bytes: int = 0
    pauses: tuple[PauseFacts, ...] = ()
    peak_rss_bytes: int | None = None
    peak_gpu_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The three records of one attempt.

    Attributes:
        priors: what `Forecast.measured` gave and `Forecast.learn` takes; nobody else reads it.
        session: what the session says of itself.
        governor: None for an attempt without a governor, or whose governor has not seen its end.
    """

    priors: Mapping[str, Any]
    session: SessionFacts = SessionFacts()
    governor: GovernorFacts | None = None

    def written(self) -> dict[str, Any]:
        """The object of a record."""
        session, governor = self.session, self.governor
        content = dict(self.priors)
        if session.framework is not None or session.attached:
            content |= {"framework": session.framework, "attached": session.attached}
        content |= {name: value for name in _SESSION[2:] if (value := getattr(session, name)) is not None}
        if governor is not None:
            content |= {name: value for name in _PEAKS if (value := getattr(governor, name)) is not None}
            content["governor"] = {
                "waited_s": governor.waited_s,
                "used_s": governor.used_s,
                "unused_s": governor.unused_s,
                "killed": governor.killed,
                "cause": governor.cause,
                "leftovers": governor.leftovers,
                "first_step": governor.first_step,
                "output_lost_bytes": governor.output_lost_bytes,
                "pauses": [{"why": pause.why, "seconds": pause.seconds} for pause in governor.pauses],
            }
        return content


def read_measured(content: Mapping[str, Any]) -> Measured:
    """The records of an object that anybody may have written; what is not of the right kind counts as missing."""
    session = SessionFacts(
        framework=as_text(content.get("framework")) or None,
        attached=content.get("attached") is True,
        slack_s=as_number(content.get("slack_s")),
        used_s=as_number(content.get("used_s")),
        reserve_s=as_number(content.get("reserve_s")),
    )
    known = {*_SESSION, *_PEAKS, "governor"}
    priors = {key: value for key, value in content.items() if key not in known}
    return Measured(priors, session, _governor(content))


def _governor(content: Mapping[str, Any]) -> GovernorFacts | None:
    told = as_object(content.get("governor"))
    peaks = [as_whole(content.get(name), least=1) for name in _PEAKS]
    if not told and not any(peaks):
        return None
    pauses = map(as_object, as_list(told.get("pauses")))
    return GovernorFacts(
        waited_s=as_duration(told.get("waited_s")),
        used_s=as_duration(told.get("used_s")),
        unused_s=as_number(told.get("unused_s")),
        killed=told.get("killed") is True,
        cause=as_text(told.get("cause")),
        leftovers=as_whole(told.get("leftovers")) or 0,
        first_step=as_whole(told.get("first_step")),
        output_lost_bytes=as_whole(told.get("output_lost_bytes")) or 0,
        pauses=tuple(
            PauseFacts(as_text(one.get("why")) or "", as_duration(one.get("seconds"))) for one in pauses
        ),
        peak_rss_bytes=peaks[0],
        peak_gpu_bytes=peaks[1],
    )
