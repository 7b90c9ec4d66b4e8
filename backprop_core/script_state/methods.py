"""Methods of the script's that are bound to an object: stored as that object and the method's name.

So another method that takes one's place (`self.step = self.fine_step`) is found again in another process.
"""

from __future__ import annotations

import types
from typing import Any

from backprop_core.script_state.attributes import classes_of, own_names
from backprop_core.script_state.making import NotMadeError


def method_name(value: object) -> str | None:
    """The name by which the class of the object that `value` is bound to has its function; None where it has none."""
    if type(value) is not types.MethodType:
        return None
    owner, function = value.__self__, value.__func__
    if isinstance(owner, type) or type(function) is not types.FunctionType:
        return None
    name = function.__name__
    return name if _found(owner, name) is function else None


def method_of(owner: object, name: str) -> Any:
    """The method of this name, bound to `owner`. Nothing of the script's runs.

    Raises:
        NotMadeError: its class has no such function here.
    """
    function = _found(owner, name)
    if type(function) is not types.FunctionType:
        raise NotMadeError(f"{type(owner).__name__} has no method {name} here")
    return types.MethodType(function, owner)


def _found(owner: object, name: str) -> Any:
    return next((own_names(one)[name] for one in classes_of(type(owner)) if name in own_names(one)), None)
