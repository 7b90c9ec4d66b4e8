"""Trainings that make a model, and its optimizer, in each round and keep them all: growing_shapes.py SHAPE.

They have never heard of us.
"""

import copy
import sys
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SHAPE = sys.argv[1]
torch.manual_seed(0)
DATA = TensorDataset(torch.randn(16, 6), torch.randint(0, 3, (16,)))
LOADER = DataLoader(DATA, batch_size=8, shuffle=True)


def net(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), nn.Dropout(0.2), nn.BatchNorm1d(width), nn.Linear(width, 3))


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), 0.01)


def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def told(models: object, optimizers: object = ()) -> None:
    """What is in all of them, and which parameters the optimizers have."""
    models, optimizers = list(models), list(optimizers)
    print("models", [[value.sum().item() for value in one.state_dict().values()] for one in models])
    for optimizer in optimizers:
        owned = [p for group in optimizer.param_groups for p in group["params"]]
        owner = [any(p is owned[0] for p in one.parameters()) for one in models]
        moments = [state["exp_avg"].sum().item() for state in optimizer.state.values()]
        print("optimizer", owner, all(p in optimizer.state for p in owned), moments)


def appended_last() -> None:
    """Behind the training of the round."""
    models, optimizers = [], []
    for number in range(3):
        model = net()
        optimizer = adam(model)
        for epoch in range(2):
            for x, y in LOADER:
                print("step", number, epoch, take(model, optimizer, x, y))
        models.append(model)
        optimizers.append(optimizer)
        told(models, optimizers)


def only_in_lists() -> None:
    """The training reaches them through the lists alone."""
    models, optimizers = [], []
    for number in range(3):
        models.append(net())
        optimizers.append(adam(models[-1]))
        for epoch in range(2):
            for x, y in LOADER:
                print("step", number, epoch, take(models[-1], optimizers[number], x, y))
    told(models, optimizers)


def in_tuples() -> None:
    """One list of both, with a schedule."""
    members = []
    for number in range(3):
        model = net(3 + number)
        optimizer = adam(model)
        members.append((model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)))
        for x, y in LOADER:
            print("step", number, take(*members[-1][:2], x, y))
            members[-1][2].step()
        print("rates", [schedule.get_last_lr() for _, _, schedule in members])
    told([one[0] for one in members], [one[1] for one in members])


def all_trained() -> None:
    """Each round adds one, and trains all of them, one after the other."""
    models, optimizers = [], []
    for number in range(3):
        models.append(net())
        optimizers.append(adam(models[-1]))
        for which, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            for x, y in LOADER:
                print("step", number, which, take(model, optimizer, x, y))
        told(models, optimizers)


def all_trained_at_once() -> None:
    """Each round adds one, and trains all of them with each batch."""
    models, optimizers = [], []
    for number in range(3):
        models.append(net())
        optimizers.append(adam(models[-1]))
        for x, y in LOADER:
            for model, optimizer in zip(models, optimizers, strict=True):
                print("step", number, take(model, optimizer, x, y))
        told(models, optimizers)


class Ensemble:
    """Members of a class of the script's."""

    def __init__(self) -> None:
        self.models, self.optimizers, self.history = [], [], []

    def grow(self) -> None:
        self.models.append(net())
        self.optimizers.append(adam(self.models[-1]))

    def fit(self) -> None:
        for epoch in range(2):
            for x, y in LOADER:
                self.history.append(take(self.models[-1], self.optimizers[-1], x, y))
                print("step", len(self.models), epoch, self.history[-1])

    def round(self) -> None:
        model = net()
        optimizer = adam(model)
        self.models.append(model)
        for x, y in LOADER:
            self.history.append(take(model, optimizer, x, y))
            print("step", len(self.models), self.history[-1])


def in_methods() -> None:
    ensemble = Ensemble()
    for _ in range(3):
        ensemble.grow()
        ensemble.fit()
    told(ensemble.models, ensemble.optimizers)
    print(sum(ensemble.history))


def in_one_method() -> None:
    ensemble = Ensemble()
    for _ in range(3):
        ensemble.round()
    told(ensemble.models)
    print(sum(ensemble.history))


def by_round() -> None:
    """Dictionaries by the number of the round."""
    models, optimizers = {}, {}
    for number in range(3):
        models[number] = net()
        optimizers[number] = adam(models[number])
        for epoch in range(2):
            for x, y in LOADER:
                print("step", number, epoch, take(models[number], optimizers[number], x, y))
        told(models.values(), optimizers.values())


def by_name() -> None:
    """One dictionary of dictionaries, each put there before the training, by a name."""
    members = {}
    for number in range(3):
        model = net()
        members[f"round {number}"] = member = {"model": model, "optimizer": adam(model), "losses": []}
        for x, y in LOADER:
            member["losses"].append(take(member["model"], member["optimizer"], x, y))
            print("step", number, member["losses"][-1])
    told([one["model"] for one in members.values()], [one["optimizer"] for one in members.values()])
    print([one["losses"] for one in members.values()])


class Frozen(nn.Module):
    """A model that is not trained any more, with a weight of its own."""

    def __init__(self, inner: nn.Module, share: float) -> None:
        super().__init__()
        self.inner, self.share = inner.eval(), share
        for parameter in self.parameters():
            parameter.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.share * self.inner(x)


def wrapped() -> None:
    """Boosting: at the end of a round the model in the list is replaced by a wrapper of it."""
    models = []
    for number in range(3):
        models.append(net())
        optimizer = adam(models[-1])
        for epoch in range(2):
            for x, y in LOADER:
                with torch.no_grad():
                    before = sum(one(x) for one in models[:-1])
                loss = nn.functional.cross_entropy(before + models[-1](x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                print("step", number, epoch, loss.item())
        models[-1] = Frozen(models[-1], 0.5 / (number + 1))
    told(models)
    print([one.share for one in models])


def boosted() -> None:
    """Boosting: residuals of all before, one optimizer at a time, appended behind the training."""
    models, residual = [], DATA.tensors[0].sum(1, keepdim=True)
    for number in range(3):
        weak = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))
        optimizer = adam(weak)
        for epoch in range(4):
            loss = (weak(DATA.tensors[0]) - residual).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print("step", number, epoch, loss.item())
        models.append(weak.eval())
        with torch.no_grad():
            residual = residual - 0.5 * weak(DATA.tensors[0])
    told(models)
    print(residual.sum().item())


def aggregated() -> None:
    """DAgger: samples of the newest policy are added, and one more policy is trained on all of them."""
    policies, seen = [], [DATA.tensors[0][:4]]
    for number in range(3):
        policies.append(net())
        optimizer = adam(policies[-1])
        samples = torch.cat(seen)
        for epoch in range(3):
            rows = torch.randperm(len(samples))[:4]
            loss = (policies[-1](samples[rows]) - samples[rows][:, :3]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print("step", number, epoch, loss.item(), len(samples))
        with torch.no_grad():
            new = policies[-1].eval()(torch.randn(4, 6))
        seen.append(torch.cat([new, new], 1))
    told(policies)
    print([one.sum().item() for one in seen])


def children() -> None:
    """Each round the best one has a child, a copy with an optimizer of its own; all are trained."""
    models = [net()]
    optimizers = [adam(models[0])]
    for number in range(3):
        losses = []
        for which in range(len(models)):
            for x, y in LOADER:
                loss = take(models[which], optimizers[which], x, y)
                print("step", number, which, loss)
            losses.append(loss)
        best = losses.index(min(losses))
        models.append(copy.deepcopy(models[best]))
        optimizers.append(adam(models[-1]))
        told(models, optimizers)


@dataclass
class Member:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    points: float = 0.0


def ranked() -> None:
    """Members of a data class that are sorted inside the round, while the newest is trained."""
    members = []
    for number in range(3):
        model = net()
        member = Member(model, adam(model))
        members.append(member)
        for epoch in range(2):
            for x, y in LOADER:
                member.points -= take(member.model, member.optimizer, x, y)
                print("step", number, epoch, member.points)
            members.sort(key=lambda one: one.points)
        print([one.points for one in members])
    told([one.model for one in members], [one.optimizer for one in members])


def turned_around() -> None:
    """The list is turned around inside the round."""
    models, optimizers = [], []
    for number in range(3):
        models.append(net())
        optimizers.append(adam(models[-1]))
        for epoch in range(2):
            for x, y in LOADER:
                print("step", number, epoch, take(models[0], optimizers[0], x, y))
            models.reverse()
            optimizers.reverse()
    told(models, optimizers)


class Stacked(nn.Module):
    """Gets one more stage in each round."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.calls = nn.ModuleList(), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return sum(stage(x) for stage in self.stages)


def stacked() -> None:
    """The round adds a stage to one model, and trains that stage with an optimizer of its own."""
    model = Stacked()
    for number in range(3):
        model.stages.append(net())
        optimizer = adam(model.stages[-1])
        for epoch in range(2):
            for x, y in LOADER:
                print("step", number, epoch, take(model, optimizer, x, y))
    told([model])
    print(model.calls)


def inner_rounds() -> None:
    """Two loops of rounds: each outer one begins a new list."""
    kept = []
    for outer in range(2):
        models, optimizers = [], []
        kept.append(models)
        for number in range(2):
            models.append(net())
            optimizers.append(adam(models[-1]))
            for x, y in LOADER:
                print("step", outer, number, take(models[-1], optimizers[-1], x, y))
    for models in kept:
        told(models)


if SHAPE != "globals":
    vars()[SHAPE]()
else:
    MODELS, OPTIMIZERS = [], []
    for number in range(3):
        MODELS.append(net())
        OPTIMIZERS.append(adam(MODELS[-1]))
        for epoch in range(2):
            for x, y in LOADER:
                print("step", number, epoch, take(MODELS[-1], OPTIMIZERS[-1], x, y))
    told(MODELS, OPTIMIZERS)
