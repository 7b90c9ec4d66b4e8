"""Scripts with counted loops say and return what they do without us, to the byte."""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import whole

_OPTIMIZER = "class O:\n    def step(self): pass\n"
_LOOP = _OPTIMIZER + "for i in range(3):\n    O().step()\n"
_SCRIPTS = {
    "a syntax error in a local module": b"import broken\n",
    "a syntax error of its own": f"{_LOOP}print('x'\n".encode(),
    "bytes in no encoding": f"{_LOOP}print('l\xe4nger')\n".encode("latin-1"),
    "Latin-1": f"# coding: latin-1\n{_LOOP}raise ValueError('l\xe4nger')\n".encode("latin-1"),
    "a byte order mark": f"\ufeff{_LOOP}print(i, __file__)\n".encode(),
    "a warning for whoever called it": f"import warnings\n{_LOOP}warnings.warn('w', stacklevel=2)\n".encode(),
    "an exit inside a loop": f"{_LOOP}    if i == 1: raise SystemExit(3)\n".encode(),
    "Ctrl-C inside a loop": f"import os, signal\n{_LOOP}    os.kill(os.getpid(), signal.SIGINT)\n".encode(),
    "an error in a local module's loop": b"import looping\nlooping.go()\n",
    "the source of its own functions": (
        f"import inspect\n{_OPTIMIZER}def f():\n    for i in range(2): O().step()\n    return i\n"
        "print(f(), inspect.getsource(f), f.__code__.co_firstlineno)\n"
    ).encode(),
    "loops of every form": f"""from __future__ import annotations
{_OPTIMIZER}
def forms(values: list[Undefined]) -> Undefined:
    o, seen = O(), []
    for i in values:
        if i == 9: break
        o.step()
    else:
        seen.append('no break')
    while (n := len(seen)) < 4:
        o.step()
        if n == 2:
            seen += ['two', 'three']
            continue
        seen.append(n)
    else:
        seen.append('while over')
    for number, (first, *rest) in enumerate(zip(values, values, values)):
        match rest:
            case [1, *others]: seen.append((number, first, others))
            case [x, _] if x > 1: o.step()
            case _: pass
    for seen[0] in range(2):
        for j in (k * k for k in range(3)):
            try:
                if j == 1: continue
                if seen[0]: return seen, i, j, n, [m for m in range(j)], forms.__annotations__
                o.step()
            finally:
                seen.append(f'finally {{j}}')
print(forms([0, 1, 2]), forms([9]))
for i in range(3): O().step(); last = i
while last: last -= 1; O().step()
del i
print(sorted(name for name in globals() if not name.startswith('__')))
""".encode(),
    "generators and coroutines": f"""import asyncio
{_OPTIMIZER}
def gen(n):
    for i in range(n):
        O().step()
        got = yield i
        if got: return got
async def ticks(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i
async def train():
    total = 0
    async for i in ticks(3):
        O().step()
        total += i
    else:
        total += 100
    for i in range(2):
        await asyncio.sleep(0)
        O().step()
    return total, [i async for i in ticks(2)]
async def both():
    print(await asyncio.gather(train(), train()))
asyncio.run(both())
g = gen(5)
print(next(g), next(g))
try: g.send('end')
except StopIteration as end: print(end.value)
def deleg():
    for i in range(2):
        yield from gen(2)
print(list(deleg()))
""".encode(),
    "a debugger": f"""import io, pdb, sys
{_OPTIMIZER}
def f():
    total = 0
    for i in range(3):
        O().step()
        if i == 1:
            pdb.Pdb(stdin=io.StringIO('n\\np i, total\\nn\\nn\\nl\\nc\\n'), stdout=sys.stdout).set_trace()
        total += i
    return total
print(f())
""".encode(),
    "what is traced": f"""import sys
{_OPTIMIZER}
lines = []
def trace(frame, event, arg):
    if frame.f_code.co_filename == __file__ and frame.f_code.co_name == 'f':
        lines.append((event, frame.f_lineno))
        return trace
def f():
    n = 0
    for i in range(2):
        O().step()
    while n < 2:
        n += 1
        O().step()
    else:
        n = 7
sys.settrace(trace)
f()
sys.settrace(None)
print(sorted({{line for event, line in lines if event == 'line'}}), [event for event, _ in lines if event != 'line'])
""".encode(),
    "spawned and forked children": f"""import multiprocessing, sys
{_OPTIMIZER}
def child(queue):
    for i in range(3): O().step()
    queue.put((__name__, i, __spec__ is None, sys.argv))
if __name__ == '__main__':
    for i in range(2): O().step()
    for method in ('spawn', 'fork'):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(queue.get())
        process.join()
    print(__spec__, __loader__.__class__, __package__, __builtins__.__name__, sys.argv, sys.flags, sys.path[0])
""".encode(),
    "errors with carets": f"""import threading, traceback
{_OPTIMIZER}
def bad(values):
    for value in values:
        O().step()
        print(1 + value['a']['b'])
for values in ([{{'a': {{'b': 1}}}}, {{'a': 2}}], 5, [None]):
    try: bad(values)
    except Exception: print(traceback.format_exc())
def thread():
    for i in range(1 // 1):
        O().step(); raise KeyError(i)
t = threading.Thread(target=thread, name='T'); t.start(); t.join()
for i in range(2): O().step() or [
    1,
    i / 0,
]
""".encode(),
    "code that is executed": f"{_LOOP}exec(open('looping.py').read())\ngo()\n".encode(),
}


@pytest.mark.parametrize("what", _SCRIPTS)
def test_a_script_says_and_returns_what_it_does_without_us(backprop: CommandLine, what: str) -> None:
    """Standard output, standard error without our own lines, and the exit status are those of the bare script."""
    script = backprop.folder / "train.py"
    script.write_bytes(_SCRIPTS[what])
    (backprop.folder / "broken.py").write_text("for i in 3 x:\n    i.step()\n")
    (backprop.folder / "looping.py").write_text(
        _OPTIMIZER + "def go():\n    for i in range(3):\n        O().step()\n    raise KeyError(i)\n"
    )
    bare = whole(backprop, script)
    ours = backprop("run", "-m", "1", str(script))
    assert ours.stdout == bare.stdout
    assert [line for line in ours.stderr.splitlines() if not line.startswith("backprop:")] == (
        bare.stderr.splitlines()
    )
    assert ours.returncode == (128 - bare.returncode if bare.returncode < 0 else bare.returncode)
