"""The framework-free heart of backprop: time, checkpoints, runs and the session that adapters talk to.

Importing this package imports no training framework and no submodule; every part is imported by its own name.
"""

__version__ = "0.1.0"
