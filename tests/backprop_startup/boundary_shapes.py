"""Small trainings with many kinds of boundary: boundary_shapes.py SHAPE. They have never heard of us."""

import copy
import random
import sys
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

SHAPE = sys.argv[1]
torch.manual_seed(0)
DATA = TensorDataset(torch.randn(24, 6), torch.randint(0, 3, (24,)))
MODEL = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
OPTIMIZER = torch.optim.Adam(MODEL.parameters())
LOADER, TEST = DataLoader(DATA, batch_size=8, shuffle=True), DataLoader(DATA, batch_size=6)


def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(MODEL(x), y)


def step(loss: torch.Tensor) -> None:
    OPTIMIZER.zero_grad()
    loss.backward()
    OPTIMIZER.step()


def evaluate(name: str) -> float:
    MODEL.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in TEST:
            total += loss_of(x, y).item()
    MODEL.train()
    print("evaluated", name, total)
    return total


def train(epoch: int) -> None:
    total = 0.0
    for number, (x, y) in enumerate(LOADER):
        loss = loss_of(x, y)
        step(loss)
        total += loss.item()
        print("step", epoch, number, loss.item())
    print("average", epoch, total / len(LOADER))


def evaluations() -> None:
    """Two in each epoch by one function, and random numbers behind them."""
    for epoch in range(2):
        train(epoch)
        evaluate("once")
        evaluate("twice")
        print("sample", torch.randn(2).tolist())


class Meter:
    """Sums what it is told."""

    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0

    def add(self, value: float) -> float:
        self.sum, self.count = self.sum + value, self.count + 1
        return self.sum / self.count


def meters() -> None:
    """An object of the script's is made when an epoch begins, and read when all are over."""
    for epoch in range(4):
        meter = Meter()
        for number, (x, y) in enumerate(LOADER):
            loss = loss_of(x, y)
            step(loss)
            print("step", epoch, number, meter.add(loss.item()))
    print("last", meter.sum, meter.count)


def accumulation() -> None:
    """Evaluates at the beginning of an iteration, then accumulates gradients of batches fetched ahead.

    Its model's running statistics stand still: on a resume that evaluation runs again with the model of the checkpoint.
    """
    for layer in MODEL.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.momentum, layer.num_batches_tracked = 0.0, None
    best, number = float("inf"), 0
    rows = torch.randint(24, (4,))
    while True:
        if number % 2 == 0:
            best = min(best, evaluate(str(number)))
            torch.save(MODEL.state_dict(), f"{number}.pt")
        for _ in range(3):
            loss = loss_of(*DATA[rows]) / 3
            rows = torch.randint(24, (4,))
            loss.backward()
        OPTIMIZER.step()
        OPTIMIZER.zero_grad()
        print("iteration", number, loss.item())
        number += 1
        if number > 4:
            break
    print("best", best)


def kept_weights() -> None:
    """Weights that go on changing with the model, and copies of them."""
    kept = {}
    for epoch in range(3):
        for x, y in LOADER:
            noise = torch.randn(x.shape)
            step(loss_of(x + noise, y))
        kept[epoch] = MODEL.state_dict()
        kept[f"copy of {epoch}"] = copy.deepcopy(kept[epoch])
    for name, weights in kept.items():
        print(name, sum(value.sum().item() for value in weights.values()), weights._metadata)
    torch.save(kept, "kept.pt")


def episodes() -> None:
    """Walks through an environment with a graph that grows until the episode is over: no place to be cut within."""

    class Walk:
        place = 0.0

        def step(self, action: int) -> float:
            self.place += torch.rand(1).item() - 0.5 + 0.1 * action
            return self.place

    walk, chances, rewards = Walk(), [], []
    for episode in range(4):
        for _ in range(6):
            seen = torch.full((1, 6), walk.place)
            action = torch.distributions.Categorical(logits=nn.functional.linear(seen, MODEL[0].weight))
            taken = action.sample()
            chances.append(action.log_prob(taken))
            rewards.append(walk.step(int(taken)))
        step(-(torch.cat(chances) * torch.tensor(rewards)).sum())
        print("episode", episode, sum(rewards))
        del chances[:], rewards[:]


class Player:
    def __init__(self, number: int) -> None:
        self.number, self.points, self.games = number, 0.0, []


def reordered() -> None:
    """Objects of the script's that are sorted, and samples that are shuffled in place, between and before the steps."""
    players = [Player(number) for number in range(3)]
    samples = [{"x": x, "y": y, "seen": []} for x, y in DATA]
    for epoch in range(3):
        random.shuffle(samples)
        for player in players:
            for start in range(0, 24, 8):
                batch = samples[start : start + 8]
                loss = loss_of(
                    torch.stack([one["x"] for one in batch]), torch.stack([one["y"] for one in batch])
                )
                step(loss)
                player.points += loss.item() * ((player.number * 7 + epoch * 3) % 5)
                player.games.append(epoch)
                for one in batch:
                    one["seen"].append(player.number)
        players.sort(key=lambda player: -player.points)
        print("epoch", epoch, [(one.number, one.points, len(one.games)) for one in players])
        print([one["y"].item() for one in samples], [one["seen"] for one in samples][:3])


class Net(nn.Module):
    """A model of the script's own class, with a number, a buffer and a recurrent part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, width), nn.Dropout(0.2))
        self.memory = nn.GRU(width, width, batch_first=True)
        self.outer = nn.Linear(width, 3)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen += x.mean()
        return self.outer(self.memory(self.inner(x)[:, None])[0][:, 0])


@dataclass(frozen=True)
class Record:
    epoch: int
    loss: float
    notes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        print("made", self.epoch)


def train_fold(width: int) -> tuple[Net, torch.optim.Optimizer, Net, list[Record]]:
    model = Net(width)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
    best, lowest, records = model, float("inf"), []
    for epoch in range(2):
        for x, y in LOADER:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        records.append(Record(epoch, loss.item()))
        records[-1].notes.append(epoch)
        if loss.item() < lowest:
            best, lowest = copy.deepcopy(model), loss.item()
    return model, optimizer, best, records


def made_models() -> None:
    """New models, copies of them, their optimizers and records, which earlier iterations have made and left behind."""
    folds = []
    for width in (4, 5, 6):
        folds.append(train_fold(width))
        print("fold", width, [record.loss for record in folds[-1][3]])
    for model, optimizer, best, records in folds:
        moments = [state["exp_avg"].sum().item() for state in optimizer.state.values()]
        print(model.calls, best.calls, model.seen.item(), best.seen.item(), sum(moments), records)
        print(
            optimizer.param_groups[0]["lr"],
            best is model,
            next(iter(optimizer.state)) is next(model.parameters()),
        )
        with torch.no_grad():
            print(model.eval()(DATA[:][0]).sum().item(), best.eval()(DATA[:][0]).sum().item())
        print(list(best.state_dict()))


class Partly(nn.Linear):
    """What was trained before is left out of files, and not loaded with another task's weights."""

    def state_dict(self, *args: object, **kwargs: object) -> dict:
        return {name: v for name, v in super().state_dict(*args, **kwargs).items() if "bias" not in name}

    def load_state_dict(self, state: dict, strict: bool = True) -> None:
        super().load_state_dict({}, strict=False)


class LookAhead(torch.optim.SGD):
    """Goes back to slow weights every third step, and gives a state of its own form."""

    def __init__(self, parameters: list) -> None:
        super().__init__(parameters, 0.05, momentum=0.9)
        self.slow, self.count = None, 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        super().step(closure)
        self.count += 1
        parameters = self.param_groups[0]["params"]
        self.slow = self.slow or [one.clone() for one in parameters]
        if self.count % 3 == 0:
            for one, slow in zip(parameters, self.slow, strict=True):
                one.copy_(slow.lerp_(one, 0.5))

    def state_dict(self) -> dict:
        return {"fast": super().state_dict()}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state["fast"])


class OnPlateau(torch.optim.lr_scheduler.LRScheduler):
    """Halves the rate where the loss does not fall. Its class has forgotten what it counts."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.best, self.bad = 9.0, 0
        super().__init__(optimizer)

    def get_lr(self) -> list:
        return [rate / 2**self.bad for rate in self.base_lrs]

    def see(self, loss: float) -> None:
        self.bad += loss > self.best
        self.best = min(self.best, loss)
        self.step()

    def state_dict(self) -> dict:
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state: dict) -> None:
        self.last_epoch = state["last_epoch"]


def own_methods() -> None:
    """A module, an optimizer and a schedule whose own `state_dict` and `load_state_dict` lose something."""
    model = nn.Sequential(Partly(6, 8), nn.ReLU(), Partly(8, 3))
    optimizer = LookAhead(list(model.parameters()))
    schedule = OnPlateau(optimizer)
    for epoch in range(4):
        for x, y in LOADER:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.see(loss.item())
            print("step", epoch, loss.item(), optimizer.param_groups[0]["lr"])


class Fitter:
    """Trains its model in several calls, with the optimizer that each is given, and stops one early."""

    def __init__(self) -> None:
        self.model, self.history, self.taken = Net(4), [], 0

    def fit(
        self, opt: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, epochs: int
    ) -> None:
        worse = 0
        for epoch in range(epochs):
            for x, y in LOADER:
                loss = nn.functional.cross_entropy(self.model(x), y)
                opt.zero_grad()
                loss.backward()
                opt.step()
                schedule.step()
                self.taken += 1
            self.history.append((epoch, loss.item(), schedule.get_last_lr()))
            worse += len(self.history) > 1 and loss.item() > self.history[-2][1]
            if worse == 2:
                print("early")
                break


def stages() -> None:
    """One model is trained in stages: the head, all of it, a new head. Each optimizer has the name of the one before."""
    fitter = Fitter()
    for parameter in fitter.model.inner.parameters():
        parameter.requires_grad = False
    opt = torch.optim.Adam([p for p in fitter.model.parameters() if p.requires_grad], 0.01)
    fitter.fit(opt, torch.optim.lr_scheduler.StepLR(opt, 2, 0.5), 2)
    print("head", fitter.history, fitter.taken)
    opt = torch.optim.Adam([p for p in fitter.model.parameters() if p.requires_grad], 0.003)
    fitter.fit(opt, torch.optim.lr_scheduler.StepLR(opt, 3, 0.7), 3)
    print("slowly", fitter.history, fitter.taken)
    for parameter in fitter.model.inner.parameters():
        parameter.requires_grad = True
    opt = torch.optim.AdamW(
        [
            {"params": fitter.model.inner.parameters(), "lr": 0.001},
            {"params": fitter.model.outer.parameters()},
        ]
    )
    fitter.fit(opt, torch.optim.lr_scheduler.OneCycleLR(opt, [0.01, 0.02], total_steps=6), 2)
    fitter.model.outer = nn.Linear(4, 3)
    opt = torch.optim.SGD(fitter.model.parameters(), 0.05, momentum=0.9)
    fitter.fit(opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, 6), 2)
    print("end", fitter.history, fitter.taken, fitter.model.calls, torch.rand(1).item())
    print([value.sum().item() for value in fitter.model.state_dict().values()])


class Growing(nn.Module):
    """Gets layers while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.more, self.head = nn.Linear(6, 6), nn.ModuleList(), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        for layer in self.more:
            x = x + layer(x)
        return self.head(x)


class Symmetric(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.triu() + x.triu(1).T


def rearrange(model: Growing, optimizer: torch.optim.Optimizer, epoch: int) -> torch.optim.Optimizer:
    prune.l1_unstructured(model.head, "weight", 0.2)
    if epoch == 1:
        model.more.append(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)))
        optimizer.add_param_group({"params": model.more.parameters(), "lr": 0.003})
    if epoch == 2:
        nn.utils.parametrize.register_parametrization(model.body, "weight", Symmetric())
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    if epoch == 3:
        model.head = nn.Linear(6, 3)
        optimizer.param_groups[0]["params"] = list(model.parameters())
        optimizer.state.clear()
    return optimizer


def rearranged() -> None:
    """Pruned, grown, parametrized, with a head and an optimizer of another kind in the place of the first."""
    model = Growing()
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(4):
        if epoch:
            optimizer = rearrange(model, optimizer, epoch)
        for x, y in LOADER:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print("step", epoch, loss.item(), len(optimizer.param_groups), list(model.state_dict()))
    print([value.sum().item() for value in model.state_dict().values()])


def population() -> None:
    """Models in a list, each with an optimizer that every generation makes anew; the worst copies the best."""
    models = [nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.1), nn.Linear(4, 3)) for _ in range(3)]
    rates = [0.1, 0.01, 0.001]
    for generation in range(2):
        losses = []
        for number, model in enumerate(models):
            optimizer = torch.optim.Adam(model.parameters(), lr=rates[number])
            for x, y in LOADER:
                loss = nn.functional.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                print("step", generation, number, loss.item())
            losses.append(loss.item())
        best, worst = losses.index(min(losses)), losses.index(max(losses))
        models[worst].load_state_dict(models[best].state_dict())
        rates[worst] = rates[best] * random.choice([0.8, 1.2])
        print("generation", generation, losses, rates)
    print([[p.sum().item() for p in model.parameters()] for model in models])


{
    "own_methods": own_methods,
    "evaluations": evaluations,
    "meters": meters,
    "reordered": reordered,
    "made_models": made_models,
    "stages": stages,
    "rearranged": rearranged,
    "population": population,
    "accumulation": accumulation,
    "kept_weights": kept_weights,
    "episodes": episodes,
}[SHAPE]()
