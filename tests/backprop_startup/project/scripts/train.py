"""A project as people lay it out: the loop and what it counts lie in another folder. train.py - TRACE PAUSE."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import project_loop

project_loop.train(Path(sys.argv[2]), float(sys.argv[3]))
