"""A stand-in for a training with a session: it writes the events that a real session writes, and saves like
one.
"""

STANDIN = """
import json, os, signal, sys, time
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.runs.attempt import Attempt

attempt = Attempt.join(Path(os.environ["BACKPROP_RUN_DIR"]), int(os.environ["BACKPROP_ATTEMPT"]), SYSTEM)
control = attempt.control()
deadline = float(os.environ["BACKPROP_DEADLINE_MONOTONIC"])
store = Path(os.environ["BACKPROP_CHECKPOINT_DIR"])
total = int(os.environ.get("STANDIN_STEPS", "40"))
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append("preempted"))
step = began = 0
if os.environ.get("BACKPROP_RESUME") == "1" and store.is_dir():
    step = began = max((int(path.name[5:]) for path in store.iterdir()), default=0)
attempt.events.append("session_started", pid=os.getpid(), budget_s=1.0, resumed_from=str(step))

def save(reason):
    path = store / f"step-{step:012d}"
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"step": step}))
    attempt.events.append("checkpoint_saved", path=str(path), step=step, reason=reason, nbytes=9, seconds=0.01)
    return str(path)

outcome, checkpoint, paused = "completed", None, False
while step < total:
    for request in control.poll():
        attempt.events.append("heard", action=request.action)
        if request.action == "extend": deadline += request.extend_s
        if request.action == "stop": stop.append("stopped")
        if request.action == "checkpoint": save("requested")
        if request.action == "pause": paused, since = True, time.monotonic()
        if request.action == "continue" and paused: paused = False; deadline += time.monotonic() - since
    if stop or (time.monotonic() > deadline - 0.5 and not paused):
        outcome = stop[0] if stop else "timeboxed"
        checkpoint = save("deadline")
        break
    time.sleep(0.02)
    if not paused:
        step += 1
        attempt.events.append("progress", step=step, epoch=0, batch=step, loss=1 / step, rate=50.0, next_save_s=5.0)
attempt.events.append("session_finished", outcome=outcome, reason=f"The stand-in was {outcome}.", steps=step - began,
                      step=step, checkpoint=checkpoint, used_s=1.0, slack_s=0.25, measured={"step_s": 0.02})
print("argv", *sys.argv[1:])
"""
