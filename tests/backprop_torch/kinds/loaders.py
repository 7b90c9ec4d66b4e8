"""Kinds of data: every loader that a plain loop may read from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    get_worker_info,
)
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds._parts import dataset, fit


class _Halving(Sampler[list[int]]):
    """A user's batch sampler, with random sizes of its own."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[list[int]]:
        left = torch.randperm(self.count).tolist()
        while left:
            size = random.randint(3, 7)
            size = len(left) if len(left) < size + 2 else size
            yield left[:size]
            left = left[size:]


class _Stream(IterableDataset[Any]):
    """A stream without a length, split among workers, shuffled in a small buffer."""

    def __init__(self, count: int = 44) -> None:
        self.data = dataset(count)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        order = list(range(first, len(self.data), step))
        random.shuffle(order)
        for index in order:
            yield self.data[index]


class _Augmented(Dataset[Any]):
    """Random augmentation where the item is loaded: in the worker, if there is one."""

    def __init__(self) -> None:
        self.data = dataset()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        x, y = self.data[index]
        return x + 0.1 * torch.randn(6) + 0.1 * float(np.random.randn()) + 0.1 * random.random(), y


class _Dealing(Sampler[int]):
    """Counts its passes, and deals from a list that outlives them, shuffled by a generator of its own."""

    def __init__(self, count: int) -> None:
        self.count, self.passes, self.left = count, 0, list[int]()
        self.generator = torch.Generator().manual_seed(5)

    def __len__(self) -> int:
        return 35

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        for _ in range(35):
            if not self.left:
                self.left = torch.randperm(self.count, generator=self.generator).tolist()
            yield (self.left.pop() + self.passes) % self.count


class _Jitter:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(9)
        self.others = {"old": np.random.RandomState(3)}
        self.calls = 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + 0.1 * float(self.rng.normal()) + 0.1 * float(self.others["old"].rand()) + self.calls / 1000


class _Transformed(Dataset[Any]):
    def __init__(self) -> None:
        self.data = dataset()
        self.transform = _Jitter()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        x, y = self.data[index]
        return self.transform(x), y


class _Noisy:
    """A collate function with a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)

    def __call__(self, items: list[Any]) -> Any:
        x = torch.stack([item[0] for item in items])
        noise = torch.randn(x.shape, generator=self.generator)
        return x + 0.1 * noise, torch.stack([item[1] for item in items])


class _Again:
    """A plain iterable: shuffles a list with python's generator each time."""

    def __iter__(self) -> Iterator[Any]:
        data = dataset()
        order = list(range(42))
        random.shuffle(order)
        for first in range(0, 42, 5):
            chosen = order[first : first + 5]
            yield data.tensors[0][chosen], data.tensors[1][chosen]


def shuffled(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(dataset(), batch_size=5, shuffle=True))


def state_in_every_part(cut: Cut) -> dict[str, Any]:
    """In the sampler, in a transform two levels below the dataset, in a dictionary there, in the collate function."""
    data = Subset(ConcatDataset([_Transformed(), _Transformed()]), range(84))
    return fit(cut, DataLoader(data, batch_size=5, sampler=_Dealing(84), collate_fn=_Noisy()))


def shuffled_by_two_workers(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(dataset(), batch_size=5, shuffle=True, num_workers=2))


def workers_that_stay(cut: Cut) -> dict[str, Any]:
    loader = DataLoader(dataset(), batch_size=5, shuffle=True, num_workers=2, persistent_workers=True)
    made = fit(cut, loader)
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # left to the garbage collector it waits ten seconds for them
    return made


def _accelerated(loader: DataLoader[Any], **how: Any) -> Any:
    configuration = DataLoaderConfiguration(**how)
    return Accelerator(cpu=True, dataloader_config=configuration).prepare(loader)


def accelerated(cut: Cut) -> dict[str, Any]:
    return fit(cut, _accelerated(DataLoader(dataset(), batch_size=5, shuffle=True)))


def accelerated_by_two_workers_with_a_seed(cut: Cut) -> dict[str, Any]:
    loader = DataLoader(dataset(), batch_size=5, shuffle=True, num_workers=2)
    return fit(cut, _accelerated(loader, use_seedable_sampler=True))


def accelerated_stream(cut: Cut) -> dict[str, Any]:
    return fit(cut, _accelerated(DataLoader(_Stream(), batch_size=5)))


class PreparedByRay(DataLoader[Any]):
    """As Ray Train's prepared loader: it has the attributes of another one, reads a batch ahead, and is its own iterator."""

    def __init__(self, held: DataLoader[Any]) -> None:
        vars(self).update(vars(held))
        self._dataloader = held
        self.dataloader_iter: Any = None
        self.next_batch: Any = None

    def __len__(self) -> int:
        return len(self._dataloader)

    def __iter__(self) -> Any:
        self.dataloader_iter = iter(self._dataloader)
        self.next_batch = next(self.dataloader_iter, None)
        return self

    def __next__(self) -> Any:
        batch = self.next_batch
        if batch is None:
            raise StopIteration
        self.next_batch = next(self.dataloader_iter, None)
        return batch


def prepared_by_ray(cut: Cut) -> dict[str, Any]:
    return fit(cut, PreparedByRay(DataLoader(dataset(), batch_size=4, shuffle=True)))


def in_order(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(dataset(), batch_size=5))


def drop_last(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(dataset(), batch_size=5, shuffle=True, drop_last=True))


def with_replacement(cut: Cut) -> dict[str, Any]:
    sampler = RandomSampler(dataset(), replacement=True, num_samples=70)
    return fit(cut, DataLoader(dataset(), batch_size=5, sampler=sampler))


def own_batch_sampler(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(dataset(), batch_sampler=_Halving(42)), epochs=4)


def own_batch_sampler_two_workers(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(dataset(), batch_sampler=_Halving(42), num_workers=2))


def torch_batch_sampler(cut: Cut) -> dict[str, Any]:
    sampler = BatchSampler(RandomSampler(dataset()), batch_size=4, drop_last=False)
    return fit(cut, DataLoader(dataset(), batch_sampler=sampler))


def samples_without_batches(cut: Cut) -> dict[str, Any]:
    batches = [(x.repeat(2, 1), y.repeat(2)) for x, y in dataset(12)]
    return fit(cut, DataLoader(batches, batch_size=None, shuffle=True))


def own_generator(cut: Cut) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(17 + cut.piece)
    return fit(cut, DataLoader(dataset(), batch_size=5, shuffle=True, generator=generator))


def own_generator_two_workers(cut: Cut) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(17 + cut.piece)
    return fit(cut, DataLoader(dataset(), batch_size=5, shuffle=True, generator=generator, num_workers=2))


def own_generator_replayed(cut: Cut) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(17 + cut.piece)
    return fit(cut, DataLoader(dataset(), batch_size=5, shuffle=True, generator=generator), replay=True)


def stream(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(_Stream(), batch_size=5))


def stream_from_two_workers(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(_Stream(), batch_size=5, num_workers=2))


def augmented(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(_Augmented(), batch_size=5, shuffle=True))


def _added_noise(items: list[Any]) -> Any:
    x = torch.stack([item[0] for item in items])
    return x + 0.1 * random.gauss(0, 1) + 0.1 * torch.randn(6), torch.stack([item[1] for item in items])


def _seeded_by_itself(worker: int) -> None:
    np.random.seed((torch.initial_seed() + worker) % 2**32)


def _augmented_by(workers: int, *, stay: bool) -> DataLoader[Any]:
    """Its workers draw from each global generator, numpy's normal ones in pairs: in items, in collating, when they begin."""
    return DataLoader(
        _Augmented(),
        batch_size=5,
        shuffle=True,
        num_workers=workers,
        persistent_workers=stay,
        collate_fn=_added_noise,
        worker_init_fn=_seeded_by_itself,
    )


def stateful(cut: Cut) -> dict[str, Any]:
    return fit(cut, StatefulDataLoader(dataset(), batch_size=5, shuffle=True))


def plain_iterable(cut: Cut) -> dict[str, Any]:
    return fit(cut, _Again())


def list_of_batches(cut: Cut) -> dict[str, Any]:
    x, y = dataset().tensors
    return fit(cut, [(x[i : i + 6], y[i : i + 6]) for i in range(0, 42, 6)])
