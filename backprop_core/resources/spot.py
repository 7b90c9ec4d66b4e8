"""Notices of clouds that an instance is about to be taken away, asked for at its metadata service.

AWS: `spot/instance-action` of IMDSv2, about two minutes before. Google Cloud: `instance/preempted`, about 30 s before.
Azure: the scheduled event `Preempt`, at least 30 s before. The services are reached without any proxy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import as_list, as_object, as_text, decode

ASK_EVERY_S = 5.0
_TIMEOUT_S = 2.0
_MOST_BYTES = 1 << 20

Fetch = Callable[..., "str | None"]
"""`fetch(path, headers, method="GET")`: the body, None for 404. Raises OSError without an answer, or for another status."""


@dataclass(frozen=True, slots=True)
class _Cloud:
    """How one cloud is asked.

    Attributes:
        title: for people.
        address: of its metadata service.
        notice: what it says of the end of this instance, or None.
    """

    title: str
    address: str
    notice: Callable[[Fetch], str | None]


def _of_aws(fetch: Fetch) -> str | None:
    token = fetch("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    said = fetch("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token or ""})
    if said is None:
        return None
    at = as_text(as_object(_json(said)).get("time"))
    return f"at {at}" if at else "soon"


def _of_gcp(fetch: Fetch) -> str | None:
    said = fetch("/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return "within 30 s" if (said or "").strip().upper() == "TRUE" else None


def _of_azure(fetch: Fetch) -> str | None:
    headers = {"Metadata": "true"}
    said = fetch("/metadata/scheduledevents?api-version=2020-07-01", headers)
    for event in map(as_object, as_list(as_object(_json(said or "{}")).get("Events"))):
        if event.get("EventType") == "Preempt" and _is_for_us(event, fetch, headers):
            return f"not before {as_text(event.get('NotBefore')) or 'now'}"
    return None


def _is_for_us(event: Mapping[str, object], fetch: Fetch, headers: Mapping[str, str]) -> bool:
    """An event may be for other machines of the same scale set."""
    name = fetch("/metadata/instance/compute/name?api-version=2021-02-01&format=text", headers)
    return name is None or name.strip() in as_list(event.get("Resources"))


_CLOUDS = {
    "aws": _Cloud("AWS", "http://169.254.169.254", _of_aws),
    "gcp": _Cloud("Google Cloud", "http://metadata.google.internal", _of_gcp),
    "azure": _Cloud("Azure", "http://169.254.169.254", _of_azure),
}


@dataclass(frozen=True, slots=True)
class SpotAnswer:
    """What asking once has shown.

    Attributes:
        notice: a sentence on the end of this machine, or empty.
        trouble: why nothing could be heard, or empty.
    """

    notice: str = ""
    trouble: str = ""


def ask(source: str) -> SpotAnswer:
    """Ask the metadata service once; never raises for what it answers.

    Args:
        source: the checked option `watch-spot`.
    """
    from http.client import HTTPException

    name, _, address = source.partition("=")
    cloud = _CLOUDS[name]
    address = address or cloud.address
    try:
        when = cloud.notice(_fetch_from(address))
    except (OSError, HTTPException, ValueError) as error:
        why = str(error) or type(error).__name__
        return SpotAnswer(trouble=f"{cloud.title}'s metadata service at {address} does not answer: {why}.")
    return SpotAnswer(notice=f"{cloud.title} will reclaim this machine {when}." if when else "")


def _fetch_from(address: str) -> Fetch:
    from http.client import HTTPConnection  # late: it brings ssl and mail headers into every command

    parts = urlsplit(address)

    def fetch(path: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
        connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read(_MOST_BYTES).decode("utf-8", "replace")
        finally:
            connection.close()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        return body

    return fetch


def _json(text: str) -> object:
    try:
        return decode(text.encode())
    except (ValueError, json.JSONDecodeError) as error:
        raise ValueError("its answer is not JSON") from error
