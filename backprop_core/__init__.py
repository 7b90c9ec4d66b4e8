"""The framework-free heart of backprop: time, checkpoints, runs and the session that adapters talk to.

Importing this package imports no training framework and no submodule; every part is imported by its own name.
"""

try:
    import fcntl  # noqa: F401 - what every lock of ours is made with
except ImportError:
    raise ImportError(
        "backprop runs on Linux and macOS, with Python 3.11 or newer. On Windows, use it inside WSL 2."
    ) from None

__version__ = "0.1.0"
