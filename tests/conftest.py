"""What holds for every test, and for every process that a test starts."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A job in the background of a shell inherits SIGINT ignored, and so would all children: Ctrl-C could not be tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)
