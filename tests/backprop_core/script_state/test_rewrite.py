"""Loops are counted where a training step can be reached through them, and everything else is as it was."""

from __future__ import annotations

import ast
import builtins
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import pytest

from backprop_core.loop.asked_iterators import AskedIterators
from backprop_core.script_state import rewrite as rewriting
from backprop_core.script_state.program import Program
from backprop_core.script_state.rewrite import Rewritten, rewrite


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of loops in the order in which they begin."""
    begun: list[str] = []

    def ticks(key: str) -> Iterator[None]:
        begun.append(key)
        return repeat(None)

    class Sink:
        tick: Any

    names: dict[str, Any] = {
        rewriting.TICKS: ticks,
        rewriting.OVER: lambda: False,
        rewriting.ITEMS: lambda items: items,
        rewriting.ELSE: lambda key: True,
        rewriting.MAP: map,
        rewriting.GET: {}.get,
        rewriting.SINK: Sink(),
        rewriting.ASKED: AskedIterators().ask,
        rewriting.LOOPED: AskedIterators().counted,
        rewriting.OTHER: AskedIterators().other,
    }
    for name, value in names.items():
        monkeypatch.setattr(builtins, name, value, raising=False)
    return begun


def made(source: str) -> Rewritten:
    text = textwrap.dedent(source)
    program = Program()
    program.add(ast.parse(text))
    return rewrite(text, "script.py", "__main__", program)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__", "opt": Optimizer()}
    exec(made(source).code, names)
    return names


class Optimizer:
    steps = 0

    def step(self) -> None:
        self.steps += 1


def test_only_loops_that_lead_to_a_step_are_counted(counted: list[str]) -> None:
    """A loop that steps, one that calls a function which does, and an evaluation are counted; preparing data is not."""
    sites = made(
        """
        def clean(rows):
            return [row for row in rows]
        def prepare(rows):
            for row in rows:
                row.strip()
        def train(data):
            for x in data:
                opt.step()
        def evaluate(data):
            with no_grad():
                for x in data:
                    model(x)
        for epoch in range(3):
            train([1])
        """
    ).sites
    assert [(site.key, site.trains, site.holds_loops) for site in sites] == [
        ("__main__:train#1", True, False),
        ("__main__:evaluate#1", False, False),
        ("__main__:<module>#1", True, True),
    ]


@pytest.mark.parametrize(
    "body",
    [
        "for i in range(4):\n    opt.step(); seen.append(i)\nelse:\n    seen.append('else')",
        "for i in range(4):\n    opt.step()\n    if i == 2: break\nelse:\n    seen.append('else')",
        "i = 0\nwhile i < 3:\n    opt.step(); i += 1\n    if i == 1: continue\n    seen.append(i)",
        "i = 0\nwhile i < 3:\n    opt.step(); i += 1\nelse:\n    seen.append('else')",
        "i = 0\nwhile True:\n    opt.step(); i += 1\n    if i == 3: break\nelse:\n    seen.append('else')",
        """i = 5
while i:
    opt.step(); i -= 1
    try:
        if i == 2: break
    finally:
        seen.append(i)
else:
    seen.append('else')""",
        "def f():\n    for i in range(4):\n        opt.step()\n        if i == 2: return i\nseen.append(f())",
        "def g():\n    for i in range(3):\n        opt.step()\n        yield i\nseen.extend(g())",
        "it = iter(range(5))\nwhile (n := next(it, None)) is not None:\n    opt.step(); seen.append(n)",
        "for i in range(2):\n    for j in range(2):\n        opt.step(); seen.append((i, j))\n        if j: continue",
        "for a, *b in [(1, 2, 3)]:\n    opt.step(); seen.append((a, b))",
        "for seen[0:1] in [[7]]:\n    opt.step()",
        """for k in range(2):
    match k:
        case 0:
            opt.step()
        case _:
            seen.append('rest')""",
        """for _ in range(2):
    i = 0
    while i < 1:
        i += 1; opt.step()
    else:
        seen.append(i); continue""",
    ],
)
def test_a_counted_loop_does_what_it_did(counted: list[str], body: str) -> None:
    """Every form of loop, with break, continue, else, return and yield, leaves what it leaves without us."""
    plain: dict[str, Any] = {"opt": Optimizer(), "seen": []}
    exec(textwrap.dedent(body), plain)
    names: dict[str, Any] = {"opt": Optimizer(), "seen": []}
    exec(made(body).code, names)
    assert names["seen"] == plain["seen"]
    assert names["opt"].steps == plain["opt"].steps
    assert counted


def _raised(code: Any) -> str:
    try:
        exec(code, {"opt": Optimizer()})
    except Exception as error:
        trace = error.__traceback__
        assert trace is not None
        return "".join(traceback.format_exception(type(error), error, trace.tb_next))
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "source",
    [
        "for i in range(3):\n    opt.step()\n    1 / (i - 1)\n",
        "for i in 5:\n    opt.step()\n",
        "for i in (1 / n for n in (1, 0)):\n    opt.step()\n",
        "i = 0\nwhile 1 / (1 - i):\n    opt.step()\n    i += 1\n",
        "it = (1 / n for n in (1, 0))\nfor i in range(3):\n    opt.step()\n    seen = next(it) + 1\n",
        "it = (1 / n for n in (1, 0))\nfor i in range(3):\n    opt.step()\n    seen = [n for n in it]\n",
        "it = (1 / n for n in (1, 0))\nfor i in range(3):\n    opt.step()\n    seen = sum(zip(it, it), ())\n",
        "for i in range(3):\n    opt.step()\n    next(5)\n",
        "def f(x):\n    for a, b in x:\n        opt.step()\nf([(1, 2), (3,)])\n",
    ],
)
def test_tracebacks_are_the_same(counted: list[str], source: str, tmp_path: Any) -> None:
    """An exception in the body, the header, the items or the test has the lines and carets that it has without us."""
    path = tmp_path / "script.py"
    path.write_text(source)
    program = Program()
    program.add(ast.parse(source))
    mine = rewrite(source, str(path), "__main__", program)
    assert mine.sites
    assert _raised(mine.code) == _raised(compile(source, str(path), "exec"))


def test_what_follows_a_loop_is_known() -> None:
    """A loop behind which more training comes is told from one that is the last, through function calls as well."""
    sites = made(
        """
        def fit(data):
            for x in data:
                opt.step()
        def main():
            fit([1])
            for x in [1]:
                opt.step()
        main()
        """
    ).sites
    assert {site.key: site.followed for site in sites} == {"__main__:fit#1": True, "__main__:main#1": False}


def test_loops_of_a_script_without_any_framework_are_counted() -> None:
    """Where no known step is seen, a loop that gives a variable a value made from it is taken for training."""
    sites = made(
        """
        import numpy
        for step in range(100):
            weights = weights - 0.1 * gradient(weights)
        for row in rows:
            print(row)
        """
    ).sites
    assert [(site.key, site.by_update) for site in sites] == [("__main__:<module>#1", True)]


@pytest.mark.parametrize(
    "trainer",
    [
        "import lightning as L",
        "from pytorch_lightning import Trainer",
        "from transformers import Seq2SeqTrainer",
        "import keras; keras.Model().fit([])",
    ],
)
def test_loops_that_prepare_what_a_trainer_trains_on_are_no_training(trainer: str) -> None:
    """Beside a Trainer a loop that updates a variable is left alone: a session for it would say that training has begun."""
    sites = made(
        f"""
        import numpy, torch
        {trainer}
        for row in rows:
            words += len(row)
        """
    ).sites
    assert not sites


@pytest.mark.parametrize(
    "made_by",
    [
        "gradient = jax.jit(jax.value_and_grad(loss))",
        "gradient = grad(loss, has_aux=True)",
        "self.gradient = nn.value_and_grad(model, loss)",
        "@eqx.filter_value_and_grad\ndef gradient(weights): return loss(weights)",
        "@partial(jax.grad, argnums=1)\ndef gradient(weights): return loss(weights)",
    ],
)
def test_a_function_that_takes_gradients_is_followed_by_the_name_it_was_given(made_by: str) -> None:
    """JAX makes it before the loop, in which only its name stands."""
    source = (
        "import jax\n"
        + made_by
        + "\nfor step in range(9):\n    weights = update(weights, gradient(weights))\n"
    )
    assert [site.trains for site in made(source).sites] == [True]


def test_a_gradient_is_no_function_that_takes_one() -> None:
    """A loop over what torch.autograd.grad has given is a part of the step."""
    source = """
        import torch
        for step in range(9):
            gradients = torch.autograd.grad(loss(weights), weights)
            for weight, gradient in zip(weights, gradients):
                weight.sub_(gradient)
        """
    assert [site.key for site in made(source).sites if site.trains] == ["__main__:<module>#1"]


def test_a_loop_around_a_function_that_updates_is_a_training_without_any_framework() -> None:
    """Epochs that call a function or a method in which the weights change are counted, with what comes behind them."""
    sites = made(
        """
        import numpy
        class Fit:
            def epoch(self):
                for rows in self.batches:
                    self.weights -= 0.1 * rows.mean(0)
        fit = Fit()
        for number in range(8):
            fit.epoch()
        for number in range(8):
            print(number)
        """
    ).sites
    assert [(site.key, site.by_update, site.holds_loops) for site in sites] == [
        ("__main__:Fit.epoch#1", True, False),
        ("__main__:<module>#1", True, True),
    ]


def test_future_imports_encodings_and_docstrings_survive() -> None:
    """What compile reads from the text is in the code: annotations stay text, a Latin-1 file is read as such."""
    source = '# -*- coding: latin-1 -*-\n"""Doc."""\nfrom __future__ import annotations\nword = "\xe9"\nx: nowhere = 1\n'
    program = Program()
    program.add(ast.parse(source.encode("latin-1")))
    names: dict[str, Any] = {}
    exec(rewrite(source.encode("latin-1"), "s.py", "__main__", program).code, names)
    assert names["__doc__"] == "Doc."
    assert names["word"] == "\xe9"
    assert names["__annotations__"] == {"x": "nowhere"}


def test_names_of_ours_are_not_among_the_scripts() -> None:
    """A script that lists its own variables, as configurators do, finds none of ours."""
    code = made("for i in range(2):\n    opt.step()\nwhile i < 2:\n    opt.step(); i += 1").code
    stored = {name for name in code.co_names if name.startswith("__backprop_")}
    assert stored == {
        rewriting.TICKS, rewriting.OVER, rewriting.ITEMS, rewriting.MAP, rewriting.GET, rewriting.SINK,
    }  # fmt: skip


def test_the_live_variables_at_a_loop_are_those_that_are_read_later() -> None:
    """The last batch and its loss are dead at the head of the loop; what is used behind it is not."""
    from backprop_core.script_state.liveness import live_names

    seen: list[frozenset[str]] = []

    class Watched:
        def __init__(self, items: list[int]) -> None:
            self._items = iter(items)

        def __iter__(self) -> Watched:
            return self

        def __next__(self) -> int:
            frame = sys._getframe(1)
            seen.append(live_names(frame.f_code, frame.f_lasti))
            return next(self._items)

    def train(loader: Callable[[], Any]) -> tuple[int, int]:
        total = last = 0
        for batch in loader():
            output = batch * 2
            loss = output + 1
            total += loss
            last = output
        return total, last

    train(lambda: Watched([1, 2]))
    assert seen[0] == {"total", "last"}


def test_a_variable_of_a_module_is_not_read_by_an_attribute_of_the_same_name() -> None:
    """`self.out` in a function reads no variable `out`: what a loop leaves in it is dead. What a function reads is not."""
    from backprop_core.script_state.liveness import live_names

    seen: list[frozenset[str]] = []

    def items() -> Any:
        frame = sys._getframe(0).f_back
        for number in range(2):
            assert frame is not None
            seen.append(live_names(frame.f_code, frame.f_lasti))
            yield number

    source = """
class Net:
    out = None
    def forward(self, x):
        return self.out(x) + scale

def total():
    return seen_so_far

for item in items():
    out = item
    loss = out + 1
    scale = seen_so_far = loss
"""
    exec(compile(source, "s.py", "exec"), {"items": items})
    assert not seen[0] & {"out", "loss"}
    assert {"scale", "seen_so_far"} <= seen[0]
    seen.clear()
    exec(
        compile(source.replace("return seen_so_far", "return globals()['out']"), "s.py", "exec"),
        {"items": items},
    )
    assert "out" in seen[0]


def test_a_star_import_reads_no_variable() -> None:
    """`from package import *` writes names: what the last iteration left behind is as dead as without it."""
    from backprop_core.script_state.liveness import live_names

    seen: list[frozenset[str]] = []

    def items() -> Any:
        frame = sys._getframe(0).f_back
        assert frame is not None
        seen.append(live_names(frame.f_code, frame.f_lasti))
        yield 1

    source = """
from math import *
total = 0
for item in items():
    meter = [item]
    total += sum(meter) + pi
print(total)
"""
    exec(compile(source, "train.py", "exec"), {"items": items})
    assert {"meter", "item"}.isdisjoint(seen[0])
    assert {"total", "pi"} <= seen[0]
