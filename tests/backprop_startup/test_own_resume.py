"""A script that goes on from its own checkpoint wherever it finds one, as many do."""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import last_line, resumed, whole

SCRIPT = """
import json, os, signal, sys
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
data = torch.utils.data.TensorDataset(torch.randn(20, 4))
start, history = 0, []
if os.path.exists("last.pt"):
    print("found its own")
    own = torch.load("last.pt", weights_only=False)
    model.load_state_dict(own["model"])
    optimizer.load_state_dict(own["optimizer"])
    start, history = own["epoch"] + 1, own["history"]
steps = 4 * start
for epoch in range(start, 5):
    for (x,) in torch.utils.data.DataLoader(data, batch_size=5, shuffle=True):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        history.append((epoch, steps, loss.item()))
        if os.environ.get("END_AT") == str(steps):
            os.kill(os.getpid(), signal.SIGTERM)
    own = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "history": history}
    torch.save(own, sys.argv[1] if epoch < 0 else "last.pt")
print("digest", history, torch.load("last.pt", weights_only=False)["epoch"], flush=True)
"""


@pytest.mark.parametrize("options", [(), pytest.param(("--keep-files",), marks=pytest.mark.long)])
def test_it_goes_on_from_ours_alone(backprop: CommandLine, options: tuple[str, ...]) -> None:
    """Cut in an epoch, at the end of one and in another: no epoch is left out, and every loss is the uncut one's.

    Where files are left as they are it finds its own, and the loop has its place by what it counts.
    """
    script = backprop.script(SCRIPT)
    uncut = last_line(whole(backprop, script, "-"))
    (backprop.folder / "last.pt").unlink()
    for end_at in ("6", "11", "16"):
        backprop.environment["END_AT"] = end_at
        begins = ["run", "--run-id", "cut", "--grace", "0", *options, str(script), "--", "-"]
        ended = backprop(*(begins if end_at == "6" else ["resume", "cut"]))
        assert "preempted at step" in ended.stderr, ended.stderr
        assert ("found its own" in ended.stdout) == (bool(options) and end_at != "6")
    del backprop.environment["END_AT"]
    done = resumed(backprop, "cut")
    assert last_line(done) == uncut
    assert ("last.pt" in done.stderr) != bool(options)


def test_a_death_on_the_way_back_leaves_its_file_in_its_place(backprop: CommandLine) -> None:
    """Killed while the file is hidden: the governor has put it back when the command has ended."""
    script = backprop.script(SCRIPT.replace(
        "steps = 4 * start", "steps = 4 * start\nif os.environ.get('DIES'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    ))  # fmt: skip
    backprop.environment["END_AT"] = "6"
    backprop("run", "--run-id", "cut", "--grace", "0", str(script), "--", "-")
    before = (backprop.folder / "last.pt").read_bytes()
    backprop.environment["DIES"] = "1"
    died = backprop("resume", "cut")
    assert died.returncode != 0
    assert "found its own" not in died.stdout
    assert (backprop.folder / "last.pt").read_bytes() == before


KERAS_SCRIPT = """
import json, os, signal, sys
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy
keras.utils.set_random_seed(0)
x = numpy.random.default_rng(0).normal(size=(40, 4)).astype("float32")
layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
model, start = keras.Sequential([keras.layers.Input((4,)), *layers]), 0
model.compile("adam", "mse")
if os.path.exists("epoch.json"):
    print("found its own")
    model, start = keras.models.load_model("last.keras"), json.load(open("epoch.json")) + 1
class Own(keras.callbacks.Callback):
    seen = []
    def on_train_batch_end(self, batch, logs):
        self.seen.append(logs["loss"])
        if os.environ.get("END_AT") == str(len(self.seen)):
            os.kill(os.getpid(), signal.SIGTERM)
    def on_epoch_end(self, epoch, logs):
        self.model.save("last.keras")
        json.dump(epoch, open("epoch.json", "w"))
own = Own()
fitted = model.fit(x, x.sum(1), batch_size=10, epochs=4, initial_epoch=start, verbose=0, callbacks=[own])
print("digest", own.seen, fitted.history, model.get_weights()[0].sum(), flush=True)
"""


@pytest.mark.long
def test_a_model_out_of_its_own_file_takes_ours(backprop: CommandLine) -> None:
    """Keras names the slots of its optimizer otherwise: each gets its values all the same."""
    script = backprop.script(KERAS_SCRIPT)
    uncut = last_line(whole(backprop, script))
    for name in ("last.keras", "epoch.json"):
        (backprop.folder / name).unlink()
    for end_at in ("6", "11"):
        backprop.environment["END_AT"] = end_at
        ended = backprop(
            *(["run", "--run-id", "cut", "--grace", "0", str(script)] if end_at == "6" else ["resume", "cut"])
        )
        assert "preempted at step" in ended.stderr, ended.stderr
    assert "found its own" in ended.stdout
    del backprop.environment["END_AT"]
    assert last_line(resumed(backprop, "cut")) == uncut
