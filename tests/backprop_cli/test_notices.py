"""A cloud that takes the machine away, and a job whose end is moved, while a script runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backprop_core.config.spot_source import checked
from backprop_core.resources import spot
from tests.backprop_cli.commandline import CommandLine, wait_for

TRAINING = """
import time, backprop
seen = []
with backprop.timebox(seen=seen) as box:
    for step in box.steps(100_000):
        seen.append(step)
        time.sleep(0.02)
        open("trains", "a").close()
"""


@dataclass
class Metadata:
    """What a metadata service answers, by method and path; anything else is 404. And what it was asked."""

    answers: dict[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def served(metadata: Metadata) -> Iterator[Metadata]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked = f"{self.command} {self.path}"
            metadata.asked.append(asked)
            text = metadata.answers.get(asked)
            lacks = any(self.headers[name] != value for name, value in metadata.needs.items())
            if lacks and self.command == "GET":
                self.send_error(401)
            elif text is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

        do_GET = do_PUT = _answer  # noqa: N815 - http.server looks for these names

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    metadata.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield metadata
    finally:
        server.shutdown()
        server.server_close()


AWS = Metadata({"PUT /latest/api/token": "secret"}, {"X-aws-ec2-metadata-token": "secret"})
AWS_NOTICE = (
    "GET /latest/meta-data/spot/instance-action",
    '{"action": "terminate", "time": "2026-11-29T17:02:00Z"}',
)
GCP = Metadata({"GET /computeMetadata/v1/instance/preempted": "FALSE"}, {"Metadata-Flavor": "Google"})
GCP_NOTICE = ("GET /computeMetadata/v1/instance/preempted", "TRUE")
_EVENTS = "GET /metadata/scheduledevents?api-version=2020-07-01"
_OTHERS = {"EventType": "Preempt", "Resources": ["vm_1"], "NotBefore": "Sun, 29 Nov 2026 17:00:00 GMT"}
_OURS = {"EventType": "Preempt", "Resources": ["vm_0"], "NotBefore": "Sun, 29 Nov 2026 17:02:00 GMT"}
AZURE = Metadata(
    {
        _EVENTS: json.dumps({"Events": [_OTHERS, {"EventType": "Reboot", "Resources": ["vm_0"]}]}),
        "GET /metadata/instance/compute/name?api-version=2021-02-01&format=text": "vm_0",
    },
    {"Metadata": "true"},
)
AZURE_NOTICE = (_EVENTS, json.dumps({"Events": [_OTHERS, _OURS]}))


@pytest.mark.parametrize(
    ("cloud", "metadata", "notice", "said"),
    [
        ("aws", AWS, AWS_NOTICE, "AWS will reclaim this machine at 2026-11-29T17:02:00Z."),
        ("gcp", GCP, GCP_NOTICE, "Google Cloud will reclaim this machine within 30 s."),
        (
            "azure",
            AZURE,
            AZURE_NOTICE,
            "Azure will reclaim this machine not before Sun, 29 Nov 2026 17:02:00 GMT.",
        ),
    ],
)
def test_each_cloud_is_understood(cloud: str, metadata: Metadata, notice: tuple[str, str], said: str) -> None:
    """No notice, or one for another machine, is none; the cloud's own form of a notice is a sentence."""
    with served(Metadata(dict(metadata.answers), metadata.needs)) as service:
        source = checked(f"{cloud}={service.address}")
        assert spot.ask(source) == spot.SpotAnswer()
        service.answers[notice[0]] = notice[1]
        assert spot.ask(source).notice == said


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"Events": 3}', "\x00" * 100, "{" * 100_000])
def test_what_is_no_answer_is_trouble_and_never_a_notice(body: str) -> None:
    """A captive portal, a proxy or a broken service neither ends a training nor raises."""
    with served(Metadata({_EVENTS: body})) as service:
        assert not spot.ask(f"azure={service.address}").notice
    assert "does not answer" in spot.ask(f"azure={service.address}").trouble  # it is gone now


@pytest.mark.parametrize(
    "word", ["ibm", "aws=", "aws=https://there", "aws=here", "aws=http://", "aws=http://h:x"]
)
def test_an_address_that_cannot_be_asked_is_refused(word: str) -> None:
    """A word that is no cloud and an address that is none are an error before the start."""
    with pytest.raises(ValueError):
        checked(word)


def test_a_notice_means_save_and_end_and_no_further_box(backprop: CommandLine) -> None:
    """The script is asked once, its checkpoint is the run's, the outcome is preempted, and a chain begins no new box."""
    backprop.script(TRAINING)
    with served(Metadata(dict(GCP.answers), GCP.needs)) as service:
        source = f"gcp={service.address}"
        run = backprop.start(
            "run", "train.py", "-m", "5", "--watch-spot", source, "--until-done", "--run-id", "s"
        )
        wait_for(lambda: (backprop.folder / "trains").exists() and service.asked)
        service.answers[GCP_NOTICE[0]] = GCP_NOTICE[1]
        _, err = run.communicate(timeout=120)
    assert err.count("Google Cloud will reclaim this machine within 30 s. Asked the script to save") == 1, err
    record = backprop.record("s")
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["preempted"]
    assert "Google Cloud will reclaim this machine" in record["attempts"][0]["reason"]
    assert record["last_step"] > 0
    assert run.returncode == 124


def test_a_service_that_does_not_answer_is_said_once(backprop: CommandLine) -> None:
    """The training goes on as if nobody had been asked."""
    backprop.script("import time; time.sleep(1)")
    ran = backprop("run", "train.py", "--watch-spot", "aws=http://127.0.0.1:9", "--run-id", "s")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("AWS's metadata service at http://127.0.0.1:9 does not answer") == 1


def _squeue(backprop: CommandLine) -> Path:
    """A job whose end is what the file holds that is returned."""
    tools, end = backprop.folder / "bin", backprop.folder / "end"
    tools.mkdir()
    (tools / "squeue").write_text(f"#!/bin/sh\ncat {end}\n")
    (tools / "squeue").chmod(0o755)
    backprop.environment |= {"SLURM_JOB_ID": "7", "PATH": f"{tools}:{backprop.environment['PATH']}"}
    return end


def _ends_in(path: Path, seconds: float) -> None:
    text = datetime.fromtimestamp(time.time() + seconds).astimezone().strftime("%Y-%m-%dT%H:%M:%S")
    path.with_suffix(".new").write_text(f"{text}\n")
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    "limit", [pytest.param("job", marks=pytest.mark.faults), pytest.param("box", marks=pytest.mark.long)]
)
def test_a_job_that_is_prolonged_prolongs_its_box(backprop: CommandLine, limit: str) -> None:
    """The box goes on to the job's new end, or as long as it was to be, and its session trains until then."""
    end = _squeue(backprop)
    backprop.script(TRAINING)
    first_s = 12.0 + 3 * backprop.start_s
    _ends_in(end, first_s)
    box_s = 600.0 if limit == "job" else first_s + 8.0
    began = time.monotonic()
    run = backprop.start("run", "train.py", "-m", f"{box_s:g}s", "--run-id", "j")
    wait_for((backprop.folder / "trains").exists)
    _ends_in(end, first_s + 8.0 if limit == "job" else 600.0)
    _, err = run.communicate(timeout=180)
    took_s = time.monotonic() - began
    assert "The job's end was moved: the end of SLURM job 7" in err
    assert backprop.record("j")["attempts"][0]["outcome"] == "timeboxed"
    assert took_s > first_s, err


@pytest.mark.parametrize(
    ("grace", "outcome"),
    [
        pytest.param("5", "timeboxed", marks=pytest.mark.long),
        pytest.param("40", "preempted", marks=pytest.mark.faults),
    ],
)
def test_a_job_that_is_cut_short_ends_its_box_in_time(
    backprop: CommandLine, grace: str, outcome: str
) -> None:
    """The session saves and is gone before the new end; where that is nearer than the grace it is asked to end at once."""
    end = _squeue(backprop)
    backprop.script(TRAINING)
    _ends_in(end, 60.0)  # asked again after a quarter of that
    run = backprop.start("run", "train.py", "-m", "10", "--grace", grace, "--run-id", "j")
    wait_for((backprop.folder / "trains").exists)
    _ends_in(end, 40.0)
    _, err = run.communicate(timeout=180)
    events = (backprop.attempt_dir("j") / "events.jsonl").read_text().splitlines()
    (told,) = [one for one in map(json.loads, events) if one["kind"] == "session_finished"]
    assert told["used_s"] < 45.0
    assert told["slack_s"] > 0
    attempt = backprop.record("j")["attempts"][0]
    assert attempt["outcome"] == outcome, err
    assert "killed" not in attempt["reason"]
    assert backprop.record("j")["last_step"] > 0
