"""What holds for every test, and for every process that a test starts."""

from __future__ import annotations

import signal

# A job in the background of a shell inherits SIGINT ignored, one under nohup SIGHUP, and so would all that tests start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
