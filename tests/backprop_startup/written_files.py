"""A numpy training that writes files in every way that people do: written_files.py PAUSE STEPS."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

# ruff: noqa: E402, PTH105, PTH123, SIM115 - as people write it
sys.modules["tensorflow"] = None  # type: ignore[assignment]  # tensorboard would import all of it, and needs none
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

PAUSE, STEPS = float(sys.argv[1]), int(sys.argv[2])
out = Path("out")
shutil.rmtree(out, ignore_errors=True)
out.mkdir()

held = open("held.csv", "w", newline="")  # for the whole training, and flushed by nobody
rows = csv.writer(held)
rows.writerow(["step", "loss"])
with open("appended.csv", "w") as header:
    header.write("step,loss\n")
logging.basicConfig(filename=out / "train.log", level=logging.INFO, format="%(message)s")
logging.info("begins")
np.save("best.npy", np.full(3, np.inf))
events = EventFileWriter("events")

rng = np.random.default_rng(0)
w, best = np.zeros(3), np.inf
for step in range(STEPS):
    x = rng.normal(size=3)
    w -= 0.05 * (w - x)
    loss = float(((w - x) ** 2).sum())
    rows.writerow([step, loss])
    with open("appended.csv", "a") as log:
        log.write(f"{step},{loss}\n")
    logging.info("step %d", step)
    if step == STEPS - 10:
        with open("late.txt", "a") as late:
            late.write("late\n")
    value = Summary.Value(tag="loss", simple_value=loss)
    events.add_event(Event(step=step, summary=Summary(value=[value])))
    if loss < best:
        best = loss
        np.save("best.new.npy", w)
        os.replace("best.new.npy", "best.npy")
    Path("seen").write_text(str(step))
    time.sleep(PAUSE)
held.close()
events.close()
