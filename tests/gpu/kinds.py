"""Kinds of training on a device that have to be exact, by name. `TRAIN_ON` is the device; "cpu" tries the harness."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.backprop_torch.cutting import Cut

DEVICE = torch.device(os.environ.get("TRAIN_ON", "cuda"))
ON_CUDA = DEVICE.type == "cuda"
EPOCHS, BATCH, POINTS = 3, 8, 64


def _loader() -> DataLoader[Any]:
    made = torch.Generator().manual_seed(5)
    points = torch.randn(POINTS, 3, 8, 8, generator=made), torch.randint(0, 3, (POINTS,), generator=made)
    return DataLoader(TensorDataset(*points), batch_size=BATCH, shuffle=True, pin_memory=ON_CUDA)


def _network() -> nn.Module:
    """With BatchNorm's buffers and Dropout, which draws from the device's generator."""
    hidden = [nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*hidden, nn.Linear(64, 3)).to(DEVICE)


def _convolutions() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(576, 3)).to(DEVICE)


def _adam(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, **options)


def _fit(
    cut: Cut,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
    amp: torch.dtype | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The ordinary loop; with noise on each batch from the device's generator."""
    losses: list[torch.Tensor] = []
    scaler = more.get("scaler")
    with cut.box(model=model, optimizer=optimizer, losses=losses, **more) as box:
        for _ in box.epochs(EPOCHS):
            for x, y in box.batches(_once(box)):
                x, y = x.to(DEVICE, non_blocking=True), y.to(DEVICE, non_blocking=True)  # noqa: PLW2901
                with torch.autocast(DEVICE.type, amp) if amp else nullcontext():
                    answer = (forward or model)(x + 0.1 * torch.randn_like(x))
                    loss = nn.functional.cross_entropy(answer, y)
                optimizer.zero_grad()
                if scaler is None:
                    loss.backward()
                    optimizer.step()
                else:
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                losses.append(loss.detach())
                cut.reached(len(losses))
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
    return state | ({} if scaler is None else {"scaler": scaler.state_dict()})


_loaders: dict[int, DataLoader[Any]] = {}


def _once(box: object) -> DataLoader[Any]:
    """One loader for all epochs of a box, as a script has it."""
    return _loaders.setdefault(id(box), _loader())


def plain(cut: Cut) -> dict[str, Any]:
    """Dropout and noise from the device's own generator."""
    model = _network()
    return _fit(cut, model, _adam(model))


def cudnn(cut: Cut) -> dict[str, Any]:
    """Convolutions."""
    model = _convolutions()
    return _fit(cut, model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


def amp_bfloat16(cut: Cut) -> dict[str, Any]:
    """Autocast that needs no scaler."""
    model = _network()
    return _fit(cut, model, _adam(model), amp=torch.bfloat16)


def amp_float16(cut: Cut) -> dict[str, Any]:
    """Autocast with a GradScaler, which begins so high that it has to come down and grows again soon."""
    model = _network()
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**30, growth_interval=3)
    half = torch.float16 if ON_CUDA else torch.bfloat16
    return _fit(cut, model, _adam(model), amp=half, scaler=scaler)


def fused_optimizer(cut: Cut) -> dict[str, Any]:
    """One kernel for all parameters; its step counts lie on the device."""
    model = _network()
    return _fit(cut, model, _adam(model, fused=True))


def compiled(cut: Cut) -> dict[str, Any]:
    """torch.compile, on CUDA with the compiler that it has for GPUs."""
    model = _network()
    forward: Any = torch.compile(model, backend="inductor" if ON_CUDA else "aot_eager")
    return _fit(cut, model, _adam(model), forward=forward)


def own_generator(cut: Cut) -> dict[str, Any]:
    """A generator of the script's own on the device."""
    model, generator = _network(), torch.Generator(DEVICE).manual_seed(9)

    def forward(x: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(x).normal_(generator=generator)
        made: torch.Tensor = model(x + noise)
        return made

    return _fit(cut, model, _adam(model), forward=forward, generator=generator)


def side_stream(cut: Cut) -> dict[str, Any]:
    """Everything on a stream that the default one does not wait for, with work still queued when a step ends."""
    if not ON_CUDA:
        return plain(cut)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        model = _network()
        made = _fit(cut, model, _adam(model))
    stream.synchronize()
    return made


def cuda_graph(cut: Cut) -> dict[str, Any]:
    """Forward, backward and step as one graph that is captured inside the box, after the state has come back."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 3)).to(DEVICE)
    optimizer = _adam(model, capturable=ON_CUDA)
    x, y = torch.zeros(BATCH, 3, 8, 8, device=DEVICE), torch.zeros(BATCH, dtype=torch.long, device=DEVICE)
    losses: list[torch.Tensor] = []

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        replay = _captured(step, model, optimizer) if ON_CUDA else step
        for _ in box.epochs(EPOCHS):
            for new_x, new_y in box.batches(_once(box)):
                x.copy_(new_x)
                y.copy_(new_y)
                losses.append(replay().detach().clone())
                cut.reached(len(losses))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def _captured(
    step: Callable[[], torch.Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> Callable[[], torch.Tensor]:
    """`step` as a graph. The warm-up trains, so what it changes is put back in place, where the graph will look for it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moments = {p: {k: v.clone() for k, v in state.items()} for p, state in optimizer.state.items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss = step()
    with torch.no_grad():
        model.load_state_dict(before)
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                value.copy_(moments[parameter][name]) if parameter in moments else value.zero_()

    def replay() -> torch.Tensor:
        graph.replay()
        return loss

    return replay


KINDS: Mapping[str, Callable[[Cut], dict[str, Any]]] = {
    kind.__name__: kind
    for kind in (
        plain,
        cudnn,
        amp_bfloat16,
        amp_float16,
        fused_optimizer,
        own_generator,
        side_stream,
        cuda_graph,
        compiled,
    )
}
