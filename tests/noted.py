"""What a test notes while a process trains, and no checkpoint brings back: each attempt has its own."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any


class Noted(ModuleType):
    """A list that belongs to the process, as a module does."""

    def __init__(self) -> None:
        super().__init__("noted")
        self.items: list[Any] = []

    def append(self, one: Any) -> None:
        self.items.append(one)

    def clear(self) -> None:
        self.items.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]
