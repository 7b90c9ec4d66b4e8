"""Every name of PyTorch that this adapter relies on and that PyTorch's documentation does not promise.

Checked before a loop is watched: a PyTorch that has moved one of them trains without us, and that is said.
"""

from __future__ import annotations

import torch
from torch.optim import optimizer
from torch.utils.data import DataLoader, dataloader

from backprop_core.ports.patches import Need, check

_HINT = "Tested with 2.13."

OF_OPTIMIZERS = (
    Need(
        "", ("register_optimizer_step_pre_hook", "register_optimizer_step_post_hook"), "see optimizer steps"
    ),
)
OF_DATALOADERS = (
    Need("", ("_BaseDataLoaderIter", "_SingleProcessDataLoaderIter"), "find boundaries between two steps"),
)
OF_A_LOADER = (
    Need("", ("_iterator", "batch_sampler", "persistent_workers"), "restore the position in the data"),
)
OF_AN_ITERATOR = (
    Need(
        "",
        ("_index_sampler", "_sampler_iter", "_num_yielded", "__next__"),
        "skip trained batches by index",
    ),
)


def check_needs() -> None:
    """Refuse a PyTorch whose loops could not be watched or resumed.

    Raises:
        UnsupportedVersionError: it has moved one of the names above; nothing was changed.
    """
    known = {"version": f"PyTorch {torch.__version__}", "hint": _HINT}
    check(OF_OPTIMIZERS, optimizer, owner="torch.optim.optimizer", **known)
    check(OF_DATALOADERS, dataloader, owner="torch.utils.data.dataloader", **known)
    loader = DataLoader([0], generator=torch.Generator())  # type: ignore[arg-type,var-annotated]
    check(OF_A_LOADER, loader, owner="its DataLoader", **known)
    iterator = dataloader._SingleProcessDataLoaderIter(
        loader
    )  # draws from the generator above, not from the script's
    check(OF_AN_ITERATOR, iterator, owner="its loader's iterator", **known)
