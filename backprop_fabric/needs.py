"""Every name of Lightning Fabric that this adapter relies on and that its documentation does not promise."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from backprop_core.ports.patches import Need, check

_HINT = "Tested from 2.4 to 2.6: pip install 'lightning<2.7'."

OF_A_LOADER = (
    Need(
        "",
        ("_dataloader", "_device", "_num_iter_calls"),
        "restore the position in a loader that Fabric set up",
    ),
)
OF_THE_WRAPPERS = (
    Need("", ("_set_sampler_epoch", "move_data_to_device"), "start a pass as Fabric does"),
    Need("_FabricDataLoader", ("__iter__",), "know iterators over Fabric's loaders"),
)


def wrappers_of(loader: object) -> ModuleType | None:
    """The module that made `loader`, if that is a loader of Fabric's; it has two names."""
    return next((module for module in wrappers() if isinstance(loader, _loader_class(module))), None)


def wrappers() -> list[ModuleType]:
    """The modules of those Fabrics that the process has imported."""
    names = ("lightning.fabric.wrappers", "lightning_fabric.wrappers")
    return [module for name in names if (module := sys.modules.get(name)) is not None]


def _loader_class(module: ModuleType) -> Any:
    return getattr(module, "_FabricDataLoader", ())


def check_needs(loader: object, module: ModuleType) -> None:
    """Refuse a Fabric whose loaders could not be brought back to their place.

    Raises:
        UnsupportedVersionError: it has moved one of the names above; nothing was changed.
    """
    package = module.__name__.removesuffix(".wrappers")
    known = {"version": f"{package} {version_of(package)}", "hint": _HINT}
    check(OF_A_LOADER, loader, owner="its data loader", **known)
    check(OF_THE_WRAPPERS, module, owner=module.__name__, **known)


def version_of(package: str) -> str:
    """The version of `lightning.fabric` or `lightning_fabric`."""
    return str(getattr(sys.modules.get(package.partition(".")[0]), "__version__", "of an unknown version"))
