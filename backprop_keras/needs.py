"""Every name of Keras that this adapter relies on and that Keras' documentation does not promise.

Checked before anything is changed: a Keras that has moved one of them trains without us, and that is said.
"""

from __future__ import annotations

from typing import Any

import keras

from backprop_core.ports.patches import Need, check

_HINT = "Tested from 3.8 to 3.15: pip install 'keras<3.16'."

OF_A_MODEL = (
    Need("", ("_flatten_layers", "_symbolic_build"), "build what a resume restores"),
    Need("", ("_should_eval",), "skip a validation that does not fit"),
    Need("", ("train_function", "make_train_function"), "skip trained batches"),
    Need("", ("stop_training",), "stop fit"),
)
OF_AN_EPOCH_ITERATOR = (
    Need(
        "",
        ("_get_iterator", "_steps_seen", "_current_iterator", "data_adapter"),
        "restore the position in the data",
    ),
)
OF_A_CALLBACK_LIST = (
    Need("", ("callbacks", "on_epoch_begin", "on_epoch_end", "on_train_end", "on_test_begin"), "follow fit"),
    Need(
        "",
        ("on_train_batch_begin", "on_train_batch_end", "on_test_batch_end"),
        "find boundaries between steps",
    ),
)


def check_needs(model: Any, epoch_iterator: Any, callback_list: Any) -> None:
    """Refuse a Keras on which training could not be led, saved or resumed.

    Raises:
        UnsupportedVersionError: it has moved one of the names above; nothing was changed.
    """
    known = {"version": f"Keras {keras.__version__}", "hint": _HINT}
    check(OF_A_MODEL, model, owner="its Model", **known)
    check(OF_AN_EPOCH_ITERATOR, epoch_iterator, owner="its EpochIterator", **known)
    check(OF_A_CALLBACK_LIST, callback_list, owner="its CallbackList", **known)
