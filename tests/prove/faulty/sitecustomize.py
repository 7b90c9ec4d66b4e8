"""Plants a fault of ours in the process of a script: what a checkpoint is given to hold is spoilt.

The one place that every adapter's states pass through is taken, `Saver.take`. PLANTED_FAULT names the fault.
"""

import os
import sys

if os.environ.get("PLANTED_FAULT") and os.environ.get("BACKPROP_RUN_DIR"):
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    import faults

    faults.plant(os.environ["PLANTED_FAULT"])
