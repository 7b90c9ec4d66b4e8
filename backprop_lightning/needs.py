"""Every name of Lightning that this adapter relies on and that Lightning's documentation does not promise.

Checked before anything is changed: a Lightning that has moved one of them trains without us, and that is said.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from backprop_core.ports.patches import Need, check
from backprop_lightning.package import package_of, version_of

_HINT = "Tested from 2.4 to 2.6: pip install 'pytorch-lightning<2.7'."

OF_A_TRAINER = (
    Need("", ("_run_stage",), "run training"),
    Need("", ("_checkpoint_connector", "_signal_connector", "_logger_connector"), "save and resume"),
    Need("", ("_accelerator_connector",), "share signals with the SLURM plugin"),
    Need(
        "_checkpoint_connector",
        ("resume_start", "restore_training_state", "dump_checkpoint", "_loaded_checkpoint", "_ckpt_path"),
        "resume with Lightning's own code",
    ),
    Need("_signal_connector", ("register_signal_handlers", "teardown"), "receive stop signals"),
    Need("_logger_connector", ("_callback_metrics",), "report the loss"),
    Need(
        "fit_loop",
        (
            "_load_combined_loader_states",
            "setup_data",
            "_should_reload_train_dl",
            "_combined_loader",
            "_combined_loader_states_to_load",
            "_data_fetcher",
            "_restarting",
            "_last_train_dl_reload_epoch",
            "epoch_progress",
        ),
        "restore the position in the data",
    ),
    Need(
        "fit_loop.epoch_loop",
        ("advance", "batch_progress", "val_loop", "max_steps", "restarting", "_results"),
        "find boundaries between two steps",
    ),
    Need(
        "fit_loop.epoch_loop",
        (
            "_should_accumulate",
            "_should_check_val_fx",
            "_should_check_val_epoch",
            "_num_ready_batches_reached",
        ),
        "know what runs after a batch",
    ),
    Need(
        "fit_loop.epoch_loop.val_loop",
        (
            "run",
            "setup_data",
            "_should_reload_val_dl",
            "_combined_loader",
            "_has_run",
            "_last_val_dl_reload_epoch",
            "_seen_batches_per_dataloader",
            "_module_mode",
        ),
        "stop a validation in time",
    ),
)
OF_THE_PACKAGE = (
    Need("utilities.exceptions", ("_TunerExitException",), "stop fit"),
    Need("utilities.migration.utils", ("_pl_migrate_checkpoint",), "read checkpoints of an older Lightning"),
    Need(
        "trainer.connectors.logger_connector.result",
        ("_Metadata", "_Sync", "_ResultMetric"),
        "restore the sums of a running epoch",
    ),
)
OF_A_COMBINED_LOADER = (Need("", ("_flattened", "_iterator"), "record the position in the data"),)


def check_needs(trainer: Any) -> None:
    """Refuse a Lightning on which training could not be led, saved or resumed.

    Raises:
        UnsupportedVersionError: it has moved one of the names above; nothing was changed.
    """
    package = package_of(trainer)
    known = {"version": f"Lightning {version_of(trainer)}", "hint": _HINT}
    check(OF_A_TRAINER, trainer, owner="its Trainer", **known)
    for need in OF_THE_PACKAGE:
        module = import_module(f"{package}.{need.place}")
        check([Need("", need.names, need.why)], module, owner=module.__name__, **known)
    loader = import_module(f"{package}.utilities.combined_loader").CombinedLoader([])
    check(OF_A_COMBINED_LOADER, loader, owner="its CombinedLoader", **known)
