"""Arrays of JAX in a script that never imports Keras, in a fresh process: stored; those of an unknown package are named."""

from __future__ import annotations

import subprocess
import sys

import pytest

KEEPS = """
import sys
import jax, jax.numpy as jnp
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.state import ScriptState

class Model:
    def __init__(self):
        self.weights, self.key = jnp.ones(3), jax.random.key(0)

def watched(model):
    state = ScriptState([("model", model)], frameworks=frameworks_in_use(), made_again=True)
    state.baseline()
    return state

trained, fresh = Model(), Model()
state, again = watched(trained), watched(fresh)
trained.weights, trained.key = trained.weights * 2, jax.random.split(trained.key)[0]
assert again.restore(state.changed()).missing == [] and state.unkept() == []
print(fresh.weights.tolist(), bool((fresh.key == trained.key).all()), "keras" in sys.modules)
"""

NAMES = """
import packaging
from backprop_core.script_state.state import ScriptState

class Array:  # stands for that of a package written in C, which has a __dict__ and nothing in it
    __module__ = "packaging"
    def __dlpack__(self): ...

holder = {"weights": Array()}
state = ScriptState([("holder", holder)], made_again=True)
state.baseline()
holder["weights"] = Array()
state.changed()
print([one.name for one in state.unkept()])
"""


def _printed(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_arrays_and_keys_of_jax_come_back_without_keras() -> None:
    """They were taken for objects without attributes: a checkpoint held none of them, and no line said so."""
    assert _printed(KEEPS) == "[2.0, 2.0, 2.0] True False"


def test_an_array_of_a_package_that_nobody_knows_is_named() -> None:
    """What is in no attribute cannot be seen to be unchanged."""
    assert _printed(NAMES) == "['holder[...]']"


def test_a_traced_function_is_known() -> None:
    """Inside `jit` and `grad` JAX calls a function with stand-ins, and outside of them it does not."""
    import jax

    from backprop_keras.bare_arrays import JaxArrays

    seen = []
    arrays = JaxArrays()

    def looked(x: object) -> object:
        seen.append(arrays.is_tracing())
        return x

    jax.jit(looked)(1.0)
    jax.grad(looked)(1.0)
    looked(1.0)
    assert seen == [True, True, False]


SET = """
import json, os, sys
import jax
if "keras" in sys.argv:
    import keras
    import tensorflow as tf
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.process_settings import ProcessSettings
from backprop_core.script_state.state import ScriptState

state = ScriptState([ProcessSettings(frameworks_in_use())])
state.baseline()
if "set" in sys.argv:
    jax.config.update("jax_debug_nans", True)
    if "keras" in sys.argv:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("mixed_bfloat16")
        tf.config.run_functions_eagerly(True)
    print(json.dumps(state.changed()))
else:
    assert state.restore(json.loads(sys.argv[-1])).missing == []
    print(jax.config.jax_debug_nans)
    if "keras" in sys.argv:
        print(keras.config.floatx(), keras.config.dtype_policy().name, tf.config.functions_run_eagerly())
"""


@pytest.mark.parametrize(
    ("how", "expected"),
    [((), "True"), pytest.param(("keras",), "True\nfloat64 mixed_bfloat16 True", marks=pytest.mark.long)],
)
def test_what_is_set_in_training_is_set_again(how: tuple[str, ...], expected: str) -> None:
    """Settings of JAX without Keras, and of Keras on it beside TensorFlow's, in another process."""
    saved = _printed(SET, *how, "set")
    assert _printed(SET, *how, saved) == expected
