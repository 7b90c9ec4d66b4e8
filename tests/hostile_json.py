"""What a JSON file of ours may hold after an accident or an attack, for tests of every reader."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

SEEN_TO_BREAK: tuple[object, ...] = (
    {"float": []},
    {"float": {}},
    {"float": "nan"},
    {"float": None},
    10**400,
    -(10**400),
    2**63,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
    [],
    [[]],
    {},
    "",
    "\0",
    "\ud800",
    "²",
    "\x1b[2J",
    "a" * 5000,
    "../..",
)


def anything() -> st.SearchStrategy[Any]:
    """Any JSON value, those first that have broken a reader."""
    leaf = st.sampled_from(SEEN_TO_BREAK) | st.none() | st.integers() | st.floats() | st.text(max_size=20)
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    )


@st.composite
def twisted(draw: st.DrawFn, sound: Any) -> Any:
    """`sound` with some of what stands in it replaced by anything, or left out."""
    if isinstance(sound, dict):
        content = dict(sound)
        for key in (
            draw(st.lists(st.sampled_from(sorted(content)), max_size=3, unique=True)) if content else ()
        ):
            if draw(st.booleans()):
                content[key] = draw(twisted(content[key]))
            else:
                del content[key]
        return content
    if isinstance(sound, list) and sound and draw(st.booleans()):
        place = draw(st.integers(0, len(sound) - 1))
        return [*sound[:place], draw(twisted(sound[place])), *sound[place + 1 :]]
    return draw(anything())
