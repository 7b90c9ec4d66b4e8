"""Terminals: a pty for the script where backprop stands on one, and the real terminal's modes kept and given
back.

The real terminal is put into a mode that hands keys on at once and unechoed, so that line editing, echo and
hidden input are the business of the script's pty, as they are without backprop. Signals from keys and the
translation of line ends stay with the real terminal.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from contextlib import suppress

_SIZE = struct.Struct("HHHH")
_IFLAG, _OFLAG, _LFLAG, _CC = 0, 1, 3, 6


def open_pty(like_fd: int) -> tuple[int, int]:
    """A new pty (master, slave) with the window size of the terminal `like_fd`; line ends pass through
    unchanged.
    """
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[
        _OFLAG
    ] &= ~termios.OPOST  # the real terminal adds the carriage returns; output.log stays clean
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    copy_window_size(like_fd, master)
    return master, slave


def copy_window_size(source_fd: int, target_fd: int) -> None:
    """Give one terminal the window size of another; a closed or sizeless one changes nothing."""
    with suppress(OSError):
        size = fcntl.ioctl(source_fd, termios.TIOCGWINSZ, bytes(_SIZE.size))
        fcntl.ioctl(target_fd, termios.TIOCSWINSZ, size)


def make_controlling(fd: int) -> None:
    """In a session leader without a terminal: make `fd` its controlling terminal."""
    with suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def in_foreground(fd: int) -> bool:
    """Whether this process may read the terminal and set its modes without being stopped for it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


class KeyForwarder:
    """Keys of the real terminal handed on to the script's pty; `enter` and `leave` may be called any number
    of times.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.active = False
        self._saved: list[int | list[bytes | int]] | None = None

    def enter(self) -> bool:
        """Take the terminal over if this process is in its foreground; True if keys can be read from now
        on.
        """
        if self.active or not in_foreground(self.fd):
            return self.active
        try:
            self._saved = termios.tcgetattr(self.fd)
            mode = termios.tcgetattr(self.fd)
        except (OSError, termios.error):
            return False
        mode[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        mode[_IFLAG] &= ~termios.ICRNL  # the pty makes the new line of it
        mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
        self._set(mode)
        self.active = True
        return True

    def leave(self) -> None:
        """Give the terminal its modes back."""
        if self.active and self._saved is not None:
            self._set(self._saved)
        self.active = False

    def _set(self, mode: list[int | list[bytes | int]]) -> None:
        # From the background tcsetattr would stop us with SIGTTOU, and a closed terminal refuses it.
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            with suppress(OSError, termios.error):
                termios.tcsetattr(self.fd, termios.TCSANOW, mode)
        finally:
            signal.signal(signal.SIGTTOU, before)
