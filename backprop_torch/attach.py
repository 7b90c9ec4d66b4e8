"""Attaches to an unchanged PyTorch script: the entry point `torch.backends`, called at the end of `import torch`.

It is called in every process that imports torch, and an exception in it would become a failed `import torch`. So it loads
nothing before it knows that the process is a script under `backprop run`, and lets no exception out. What watches training
is built when the script makes its first optimizer or asks a loader for data.
"""

from __future__ import annotations

import os

from backprop_core import contract


def attach() -> None:
    """Wait for a training, in a script under `backprop run`."""
    if contract.RUN_DIR not in os.environ:
        return
    from backprop_core.session import attach_rules

    try:
        if attach_rules.may_attach("pytorch", every_rank=True):
            from backprop_torch.training_watch import wait_for_training

            wait_for_training()
            if attach_rules.is_one_of_several():
                from backprop_core.session.launched_ranks import note_own_rank

                note_own_rank()
            from backprop_torch.rank_notes import note_ranks

            note_ranks()
            from backprop_torch.own_saves import tell_of_saves

            tell_of_saves()
    except Exception as error:
        attach_rules.give_up("pytorch", error)
