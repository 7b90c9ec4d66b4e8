"""Every name of transformers that this adapter relies on and that its documentation does not promise.

Checked before anything is changed: a Trainer that has moved one of them trains without us, and that is said.
"""

from __future__ import annotations

from typing import Any

import transformers
from transformers import trainer as trainer_module

from backprop_core.ports.patches import Need, check

_HINT = "It needs transformers 5.3 or later, and was tested up to 5.24: pip install 'transformers>=5.3'."

OF_THE_CLASS = (
    Need("", ("_maybe_log_save_evaluate", "get_batch_samples"), "find boundaries between two steps"),
    Need(
        "",
        (
            "_finalize_training",
            "_init_training_state",
            "_load_from_checkpoint",
            "_load_optimizer_and_scheduler",
            "_load_rng_state",
            "_load_scaler",
            "_run_epoch",
        ),
        "resume with Trainer's own code",
    ),
)
OF_THE_MODULE = (Need("", ("skip_first_batches",), "restore the position in the data"),)
OF_A_TRAINER = (
    Need("callback_handler", ("on_train_begin", "on_epoch_end", "on_train_end", "callbacks"), "follow train"),
    Need("state", ("global_step", "log_history", "best_model_checkpoint"), "know the progress"),
    Need("control", ("should_evaluate", "should_save", "should_log", "should_training_stop"), "stop train"),
)


def check_needs_of_the_class() -> None:
    """Refuse a transformers whose Trainer could not be led, saved or resumed.

    Raises:
        UnsupportedVersionError: it has moved one of the names above; nothing was changed.
    """
    check(OF_THE_CLASS, trainer_module.Trainer, owner="its Trainer", **_known())
    check(OF_THE_MODULE, trainer_module, owner="transformers.trainer", **_known())


def check_needs(trainer: Any) -> None:
    """The same for one Trainer.

    Raises:
        UnsupportedVersionError: as above.
    """
    check_needs_of_the_class()
    check(OF_A_TRAINER, trainer, owner="its Trainer", **_known())


def _known() -> dict[str, str]:
    return {"version": f"transformers {transformers.__version__}", "hint": _HINT}
