"""Attaches to unchanged scripts: every Trainer gets a callback that it was not given. Called when Trainer is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backprop_core.session import attach_rules

if TYPE_CHECKING:
    from backprop_transformers.callback import BackpropCallback


def attach() -> None:
    """Give every Trainer a BackpropCallback when it begins to train, unless the script gave it one.

    Nothing is raised: what goes wrong is said in one line, and the script is left alone.
    """
    try:
        from backprop_transformers.train_entry import find_with, patch_train

        patch_train(_found_or_added)
        find_with(_found_or_added)
    except Exception as error:
        attach_rules.give_up("transformers", error)


def _found_or_added(trainer: Any) -> BackpropCallback | None:
    from backprop_transformers.callback import BackpropCallback, users_callback

    try:
        callback = users_callback(trainer)
        if callback is None:
            callback = BackpropCallback.attached()
            trainer.add_callback(callback)
    except Exception as error:
        attach_rules.give_up("transformers", error)
        return None
    return callback
