"""The methods of torch's DataLoader that are replaced while a loop is watched, and how its iterators are known.

A subclass may begin its passes in many ways: a generator around `super().__iter__()`, one iterator for all epochs, an
iterator of its own around torch's. So nothing of a subclass is replaced. What is watched is torch's own iterator, wherever
it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

Original = Callable[[Any], Any]


class LoaderListener(Protocol):
    """Told of what the script does with its loaders. Each method answers with what the original answers."""

    def begin(self, original: Original, loader: Any) -> Any:
        """`iter(loader)`."""
        ...

    def next(self, original: Original, iterator: Any) -> Any:
        """`next(iterator)` of torch's own iterator."""
        ...

    def born(self, iterator: Any) -> None:
        """Torch has made an iterator."""
        ...


@contextmanager
def patched_loader(watch: LoaderListener) -> Iterator[None]:
    """The methods are replaced inside, and exactly what was there before outside."""
    replaced: list[tuple[type[Any], str, Any]] = []

    def replace(kind: type[Any], name: str, value: Any) -> None:
        replaced.append((kind, name, vars(kind)[name]))
        setattr(kind, name, value)

    def meet(kind: type[Any]) -> None:
        """torchdata's loader begins its passes without asking DataLoader to."""
        if "__iter__" in vars(kind) and (kind is DataLoader or kind.__module__.startswith("torchdata.")):
            replace(kind, "__iter__", _begins(watch, vars(kind)["__iter__"]))

    def init_subclass(kind: type[DataLoader[Any]], /, **kwargs: Any) -> None:
        super(DataLoader, kind).__init_subclass__(**kwargs)
        meet(kind)

    before = vars(DataLoader).get("__init_subclass__")
    for kind in _loader_classes():
        meet(kind)
    replace(_BaseDataLoaderIter, "__next__", _gives(watch, _BaseDataLoaderIter.__next__))
    replace(_BaseDataLoaderIter, "__init__", _is_made(watch, _BaseDataLoaderIter.__init__))
    setattr(DataLoader, "__init_subclass__", classmethod(init_subclass))  # noqa: B010 - mypy may not see it assigned
    try:
        yield
    finally:
        put_back_init_subclass(before)
        for kind, name, value in replaced:
            setattr(kind, name, value)


def put_back_init_subclass(before: Any | None) -> None:
    """What DataLoader itself had before, or nothing."""
    if before is None:
        delattr(DataLoader, "__init_subclass__")
    else:
        setattr(DataLoader, "__init_subclass__", before)  # noqa: B010


def _begins(watch: LoaderListener, original: Original) -> Original:
    def begin_pass(loader: Any) -> Any:
        return watch.begin(original, loader)

    return begin_pass


def _gives(watch: LoaderListener, original: Original) -> Original:
    def next_item(iterator: Any) -> Any:
        return watch.next(original, iterator)

    return next_item


def _is_made(watch: LoaderListener, original: Callable[..., None]) -> Callable[..., None]:
    def init(iterator: Any, *args: Any, **kwargs: Any) -> None:
        original(iterator, *args, **kwargs)
        watch.born(iterator)

    return init


def _loader_classes() -> list[type[Any]]:
    """DataLoader and its subclasses."""
    found: list[type[Any]] = []
    queue: list[type[Any]] = [DataLoader]
    while queue:
        kind = queue.pop()
        found.append(kind)
        queue.extend(kind.__subclasses__())
    return found
