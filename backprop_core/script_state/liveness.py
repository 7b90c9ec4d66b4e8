"""Which local variables of a function can still be read from some instruction on: the others need not be kept.

At the head of a training loop the last batch, its activations and its loss are dead: they get new values before anyone reads
them. This is the classic backward data-flow analysis over the function's bytecode (Aho, Lam, Sethi and Ullman, "Compilers",
section 9.2.5), with an edge to the handler from every instruction that an exception table covers.
"""

from __future__ import annotations

import dis
import inspect
from types import CodeType

_READS = frozenset(
    {
        "LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "LOAD_FAST_BORROW", "DELETE_FAST",
        "LOAD_FAST_LOAD_FAST", "STORE_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_NAME", "DELETE_NAME",
    }
)  # fmt: skip
_WRITES = frozenset(
    {"STORE_FAST", "STORE_FAST_STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_MAYBE_NULL", "STORE_NAME"}
)
_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"})
_OF_AN_OBJECT = frozenset(
    {
        "LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR", "LOAD_SUPER_ATTR", "LOAD_SUPER_METHOD",
        "LOAD_ZERO_SUPER_ATTR", "LOAD_ZERO_SUPER_METHOD", "IMPORT_NAME", "IMPORT_FROM", "STORE_NAME",
    }
)  # fmt: skip
"""In a function or a class body, what names something of an object, a package or the class: no variable of the module."""
_BY_NAME = frozenset({"exec", "eval", "globals", "locals", "vars", "dir"})
"""Whoever reads one of these may read every variable of a module."""
_OF_THE_MODULE = frozenset({"exec", "eval", "globals"})
"""Of these, what a function of the module may use for it: the others are about the function's own variables there."""
_ALWAYS_JUMP = frozenset(
    {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE", "JUMP"}
)


def live_names(code: CodeType, offset: int) -> frozenset[str]:
    """Names of the variables of `code` that may be read after the instruction at `offset`, before they are written.

    Variables that inner functions share count always. Where the bytecode is not understood, all do.
    """
    shared = frozenset(code.co_cellvars) | frozenset(code.co_freevars)
    everything = shared | frozenset(code.co_varnames)
    if not code.co_flags & inspect.CO_OPTIMIZED:
        shared, everything = _read_by_functions(code), everything | frozenset(code.co_names)
        if shared & _OF_THE_MODULE:
            return everything
    try:
        live = _live_behind(code, offset)
        return everything if live & _BY_NAME else shared | live
    except Exception:  # a Python that this was not written for: keeping too much is only slower
        return everything


def _read_by_functions(code: CodeType) -> frozenset[str]:
    """Names of a module that the functions in it mention, but not as an attribute (`self.out`) or a module to import."""
    found: set[str] = set()
    pending = [one for one in code.co_consts if isinstance(one, CodeType)]
    while pending:
        inner = pending.pop()
        found.update(
            one.argval
            for one in dis.get_instructions(inner)
            if one.opcode in dis.hasname and one.opname not in _OF_AN_OBJECT
        )
        pending.extend(one for one in inner.co_consts if isinstance(one, CodeType))
    return frozenset(found)


def _live_behind(code: CodeType, offset: int) -> frozenset[str]:
    instructions = list(dis.get_instructions(code))
    place = {one.offset: number for number, one in enumerate(instructions)}
    if any(one.opname == "LOAD_LOCALS" for one in instructions):
        raise ValueError("all variables may be read by name")
    following = [_following(instructions, number, place) for number in range(len(instructions))]
    for start, end, handler in _handlers(code):
        for number, one in enumerate(instructions):
            if start <= one.offset < end:
                following[number].append(place[handler])
    accesses = [_accesses(one) for one in instructions]
    live: list[frozenset[str]] = [frozenset()] * len(instructions)
    changed = True
    while changed:
        changed = False
        for number in range(len(instructions) - 1, -1, -1):
            after = frozenset().union(*(live[n] for n in following[number]))
            reads, writes = accesses[number]
            before = (after - writes) | reads
            if before != live[number]:
                live[number], changed = before, True
    at = max(n for n, one in enumerate(instructions) if one.offset <= offset)
    return frozenset().union(*(live[n] for n in following[at]))


def _following(instructions: list[dis.Instruction], number: int, place: dict[int, int]) -> list[int]:
    one = instructions[number]
    found = []
    if one.opname not in _ENDS and one.opname not in _ALWAYS_JUMP and number + 1 < len(instructions):
        found.append(number + 1)
    if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
        found.append(place[one.argval])
    return found


def _handlers(code: CodeType) -> list[tuple[int, int, int]]:
    parse = getattr(dis, "_parse_exception_table", None)
    if parse is None:
        raise ValueError("no exception table to be read")
    return [(entry.start, entry.end, entry.target) for entry in parse(code)]


def _accesses(one: dis.Instruction) -> tuple[frozenset[str], frozenset[str]]:
    """Names read and names written; of a pair in one instruction the first is handled first."""
    names = one.argval if isinstance(one.argval, tuple) else (one.argval,)
    if one.opname == "STORE_FAST_LOAD_FAST":
        written, read = names
        return frozenset({read} - {written}), frozenset({written})
    if one.opname in _READS:
        return frozenset(names), frozenset()
    if one.opname in _WRITES:
        return frozenset(), frozenset(names)
    return frozenset(), frozenset()
