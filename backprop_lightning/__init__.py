"""Lightning trainings with a time budget: `Trainer(callbacks=[BackpropCallback()])`.

For `pytorch_lightning` and `lightning.pytorch`, whichever the script's Trainer comes from.
"""

from backprop_lightning.callback import BackpropCallback

__all__ = ["BackpropCallback"]
