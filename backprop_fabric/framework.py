"""Lightning Fabric, as the core sees it: a loop of the script's own, with models, optimizers and loaders that Fabric wraps.

Models and optimizers are torch's own inside, and speak for themselves. What is Fabric's is how its loaders begin a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from backprop_core.ports.framework import Tracked
from backprop_core.ports.loaders import LoaderPasses, LoaderReading, RandomnessKeeper
from backprop_core.ports.partial_framework import PartialFramework
from backprop_fabric.loaders import FabricLoaderRest, FabricPasses, FabricReading
from backprop_fabric.needs import check_needs, version_of, wrappers_of
from backprop_torch.framework import TorchFramework


class FabricFramework(PartialFramework):
    """Found by the core through the entry point `backprop.frameworks`."""

    name = "lightning.fabric"

    def __init__(self) -> None:
        self._torch = TorchFramework()
        self.translator = self._torch.translator

    def reading(
        self, loader: object, randomness: RandomnessKeeper, *, replay: bool = False
    ) -> LoaderReading | None:
        module = wrappers_of(loader)
        if module is None:
            return None
        check_needs(loader, module)
        inner = self._torch.reading(loader._dataloader, randomness, replay=replay)  # type: ignore[attr-defined]
        return None if inner is None else FabricReading(loader, module, inner)

    def loader_passes(self) -> LoaderPasses:
        return FabricPasses()

    def companion(self, value: object, tracked: Mapping[str, object]) -> Tracked | None:
        inner: Any = getattr(value, "_dataloader", None) if wrappers_of(value) is not None else None
        return FabricLoaderRest(value) if isinstance(inner, DataLoader) else None

    def environment(self) -> Mapping[str, Any]:
        return {self.name: version_of(self.name)}


class StandaloneFabricFramework(FabricFramework):
    """The same Fabric under the name that it has beside `pytorch_lightning`."""

    name = "lightning_fabric"
