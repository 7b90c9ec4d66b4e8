"""Attaches to unchanged Lightning scripts: Lightning's own entry points `callbacks_factory`, asked by every Trainer."""

from __future__ import annotations

import os
from typing import Any

from backprop_core import contract


def callbacks() -> list[Any]:
    """A callback for the Trainer that is being made, in a script under `backprop run`; never raises."""
    if contract.RUN_DIR not in os.environ:
        return []
    from backprop_core.session import attach_rules

    try:
        if not attach_rules.may_attach("lightning", every_rank=True):
            return []
        from backprop_lightning.callback import BackpropCallback

        return [BackpropCallback.attached()]
    except Exception as error:
        attach_rules.give_up("lightning", error)
        return []
