"""What a checkpoint of a Lightning training holds, and how it is put back. It is the session's `TrainingState`."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.shards import SHARDS, OtherParts, OwnShards, Shards
from backprop_core.clock import Clock
from backprop_core.prove.witness import Witness
from backprop_core.script_state.trackables import copied
from backprop_core.script_state.unkept import Unkept, together
from backprop_core.session.learning_rate import rate_of
from backprop_core.session.session import Position
from backprop_lightning import checkpoint_file, left_out, logging_state, strategies, version_folder
from backprop_lightning.checkpoint_file import CheckpointFile
from backprop_lightning.dataloader_state import CombinedLoaderWatch
from backprop_lightning.late_weights import LateWeights
from backprop_lightning.made_loaders import LoadersMade
from backprop_lightning.package import version_of
from backprop_lightning.script_watch import LightningScriptWatch, is_lightnings
from backprop_lightning.sharded_state import ShardedState
from backprop_lightning.validation_loaders import ValidationLoaders
from backprop_lightning.weight_averaging import arrange_again
from backprop_torch.framework import TorchFramework
from backprop_torch.objects import ModuleRest
from backprop_torch.pruned import prune_again, pruned_in
from backprop_torch.ranks import TorchRanks
from backprop_torch.rng_state import Randomness

OURS = "backprop.lightning"


class LightningState:
    """Takes a Trainer apart at a boundary.

    Attributes:
        loaders: the training loaders, once Lightning has made them.
        made: of what it has made them.
        validation: its loaders.
        warn: tells the user.
        say: tells the user something that is no fault, once.
        pending: the boundary lies behind a batch and before the validation or epoch end that follows it at once.
        uncounted: optimizer steps that Lightning does not count, with manual optimization.
        late: weights and optimizers that are put back when every hook of the start has run.
        sharded: where the strategy spreads model and optimizers over ranks; None: each has them whole.
    """

    def __init__(self, trainer: Any, ranks: TorchRanks, clock: Clock) -> None:
        self.trainer = trainer
        self.ranks = ranks
        self.framework = TorchFramework()
        self.sharded = ShardedState(trainer, self.framework) if strategies.shards(trainer) else None
        self.translators: Sequence[Translator] = [self.framework.translator, NumpyTranslator()]
        self.randomness = Randomness()
        self.loaders: CombinedLoaderWatch | None = None
        self.pending = False
        self.uncounted = 0
        self.late: LateWeights | None = None
        self.warn: Callable[[str], None] = lambda text: None
        self.say: Callable[[str], None] = lambda text: None
        self._read_once = False
        self._weights: Mapping[str, Any] = {}
        self._hard: dict[str, set[str]] = {}
        self._clock = clock
        self._file = CheckpointFile()
        self._frozen: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._marks: list[Any] = []
        self.script = LightningScriptWatch(trainer, self.translators)
        self.validation = ValidationLoaders(trainer)
        self.made = LoadersMade(self.script, self.randomness)
        self.processes = ranks.count
        self.other_ranks: Callable[[Mapping[str, object]], list[Any]] | None = None
        self.other_shards: Callable[[], OtherParts] | None = None

    # -- TrainingState -----------------------------------------------------------------------------------------------

    def states(self) -> Mapping[str, object]:
        self.ranks.ask_for_states()
        checkpoint, own = self.lightning(), self.own()
        if self.sharded is None:
            return {checkpoint_file.NAME: self._file.raw(self._readable(checkpoint)), OURS: self._ours(own)}
        objects = self.sharded.divided(checkpoint, OURS, own)
        objects[OURS] = self._ours(objects[OURS])
        objects[checkpoint_file.NAME] = self._file.raw(self._readable(objects[checkpoint_file.NAME]))
        objects[SHARDS] = OwnShards(self.sharded.shards, self._other_parts())
        return objects

    def _other_parts(self) -> OtherParts | None:
        if self.processes == 1:
            return lambda: ()
        return None if self.other_shards is None else self.other_shards()

    def _readable(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        if self._read_once:
            return checkpoint
        self._read_once = True
        return self._read_back(checkpoint)

    def _read_back(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Whether this could be read again is said while there is time; hyper-parameters do not stand in the way."""
        script = checkpoint_file.ScriptsOwn.of(self.trainer)
        if refusal := checkpoint_file.refused(checkpoint, script):
            self._hard = checkpoint_file.hard_hyper_parameters(checkpoint, script)
            checkpoint = checkpoint_file.without(checkpoint, self._hard)
            if self._hard:
                names = ", ".join(sorted(name for names in self._hard.values() for name in names))
                self.warn(
                    f"Hyper-parameters that torch cannot read back are left out of {checkpoint_file.NAME}: {names}."
                )
                refusal = checkpoint_file.refused(checkpoint, script)
            if refusal:
                self.warn(f"This training could not be resumed as it is. {refusal}")
        return checkpoint

    def witness(self) -> Witness:
        trainer = self.trainer
        roots = [(f"optimizer {n}" if n else "optimizer", one) for n, one in enumerate(trainer.optimizers)]
        roots += [
            (f"scheduler {n}" if n else "scheduler", one.scheduler)
            for n, one in enumerate(trainer.lr_scheduler_configs)
        ]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        roots += [] if scaler is None else [("scaler", scaler)]
        stored = self.framework.stored_with({})
        return Witness(self.script.state, roots, {}, lambda value: stored(value) or is_lightnings(value))

    def unkept(self) -> Sequence[Unkept]:
        found = [] if self.loaders is None else self.loaders.unkept()
        return together(self.script.unkept(), [*found, *self.validation.unkept()])

    def position(self) -> Position:
        trainer = self.trainer
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return Position(
            trainer.global_step + self.uncounted, trainer.current_epoch, batch, {"pending": self.pending}
        )

    def environment(self) -> Mapping[str, Any]:
        return {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "numpy": np.__version__,
            "lightning": version_of(self.trainer),
            "precision": str(self.trainer.precision),
            "ranks": self.ranks.count,
            **self.framework.environment(),
        }

    def window_rest_s(self, step_s: float) -> float:
        return 0.0  # boundaries lie at the ends of accumulation windows only

    def total_steps(self) -> int | None:
        trainer = self.trainer
        limits = [] if trainer.max_steps == -1 else [int(trainer.max_steps)]
        batches, epochs = trainer.num_training_batches, trainer.max_epochs
        if (
            epochs not in (None, -1)
            and batches != float("inf")
            and trainer.lightning_module.automatic_optimization
        ):
            limits.append(epochs * -(-int(batches) // trainer.accumulate_grad_batches))
        return min(limits, default=None)

    def learning_rate(self) -> float | None:
        return rate_of(self.trainer.optimizers)

    def synchronize(self) -> None:
        self.framework.synchronize()

    # -- taking ------------------------------------------------------------------------------------------------

    def lightning(self) -> dict[str, Any]:
        """Lightning's own checkpoint, with references to the live tensors."""
        checkpoint = self._dumped()
        if self._frozen is not None:
            checkpoint.update(self._frozen[0])
        return checkpoint_file.without(checkpoint, self._hard)

    def _dumped(self) -> dict[str, Any]:
        if self.sharded is not None:
            return self.sharded.dumped()
        checkpoint: dict[str, Any] = self.trainer._checkpoint_connector.dump_checkpoint(False)
        self._weights = checkpoint.get("state_dict", {})
        return checkpoint

    def _ours(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What Lightning leaves out, for every rank."""
        replicas = strategies.data_replicas(self.trainer)
        return {"ranks": self.ranks.gather(own), "pending": self.pending, "replicas": replicas}

    def own(self) -> dict[str, Any]:
        """What Lightning leaves out, of this rank."""
        return self._own() if self._frozen is None else self._frozen[1]

    def own_part(self) -> dict[str, object]:
        """The same, on a rank that is asked for it: hooks that save may talk to the other ranks."""
        checkpoint, own = self.lightning(), self.own()
        if self.sharded is None:
            return own
        part: dict[str, object] = self.sharded.divided(checkpoint, OURS, own)[OURS]
        return part

    def is_spread(self) -> bool:
        return self.sharded is not None

    def shards(self) -> Shards:
        return {} if self.sharded is None else self.sharded.shards

    def _own(self) -> dict[str, Any]:
        trainer = self.trainer
        module = trainer.lightning_module
        fetcher = trainer.fit_loop._data_fetcher
        rest: dict[str, Any] = dict(ModuleRest(module).capture())  # type: ignore[call-overload]
        if self.sharded is None:
            rest |= left_out.of_module(module, lambda: self._weights or self._dumped().get("state_dict", {}))
        if _drops_gradients(module) and not trainer.fit_loop.epoch_loop._should_accumulate():
            rest["gradients"] = {}  # the next step begins with that
        loaders = None
        if self.loaders is not None and fetcher is not None:
            loaders = self.loaders.position(len(getattr(fetcher, "batches", ())))
        return {
            "random": self.randomness.randomness(),
            "loaders": loaders,
            "made": dict(self.made.notes),
            "validation": self.validation.parts(),
            "module": rest,
            "optimizers": left_out.of_optimizers(trainer.optimizers),
            "pruned": pruned_in(
                module
            ),  # Lightning's `ModelPruning` saves pruned weights as if that were for good
            "logged": logging_state.capture(trainer),
            "trainer": self._loose_ends(),
            "script": self.script.capture(),
        }

    def _loose_ends(self) -> dict[str, Any]:
        """Attributes that decide what comes next and are in no state_dict."""
        trainer = self.trainer
        val_loop = trainer.fit_loop.epoch_loop.val_loop
        validated_at = getattr(trainer, "_last_val_time", None)
        return {
            "should_stop": bool(trainer.should_stop),
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "uncounted_steps": self.uncounted,
            "train_reloaded": trainer.fit_loop._last_train_dl_reload_epoch,
            "loggers": version_folder.capture(trainer),
            "val_reloaded": val_loop._last_val_dl_reload_epoch,
            "val_is_set_up": val_loop._combined_loader is not None,
            **self.validation.workers(),
            "val_seen": dict(val_loop._seen_batches_per_dataloader),
            "since_val_s": None if validated_at is None else self._clock.monotonic() - validated_at,
        }

    def freeze(self) -> bool:
        """A validation begins: whatever is asked for until `thaw` is answered as of now, weights excepted.

        Returns:
            False in the middle of an accumulation window, where nothing may be saved.
        """
        if self.trainer.fit_loop.epoch_loop._should_accumulate():
            return False
        checkpoint = self._dumped()
        small: dict[str, Any] = {
            name: copy.deepcopy(checkpoint[name]) for name in ("loops", "callbacks") if name in checkpoint
        }
        self._frozen = (small, copied(self._own()))
        self._marks = self._marks_now()
        return True

    @property
    def frozen(self) -> bool:
        """A validation runs that can be left."""
        return self._frozen is not None

    def weights_are_untouched(self) -> bool:
        """Whether the weights are those that training left: a callback may validate with averaged ones."""
        return self._marks == self._marks_now()

    def _marks_now(self) -> list[Any]:
        if self.sharded is not None:
            return _marks(self.sharded.tensors())
        return _marks(self.trainer.lightning_module.parameters())

    def thaw(self) -> None:
        """The validation is over."""
        self._frozen = None

    # -- putting back ------------------------------------------------------------------------------------------

    def put_back(self, saved: Mapping[str, Any]) -> None:
        """Just before the first batch, when every hook of the start has run. The randomness comes last."""
        trainer, ends = self.trainer, saved["trainer"]
        val_loop = trainer.fit_loop.epoch_loop.val_loop
        arrange_again(trainer)
        pruned = saved.get("pruned", {})
        self.load_late()
        prune_again(trainer.lightning_module, pruned)
        ModuleRest(trainer.lightning_module).restore(saved["module"])
        left_out.set_optimizers(trainer.optimizers, saved.get("optimizers", {}))
        self.validation.put_workers(ends)
        trainer.should_stop = ends["should_stop"]
        self.uncounted = ends.get("uncounted_steps", 0)
        trainer.accumulate_grad_batches = ends["accumulate_grad_batches"]
        trainer.fit_loop._last_train_dl_reload_epoch = ends["train_reloaded"]
        val_loop._last_val_dl_reload_epoch = ends["val_reloaded"]
        val_loop._seen_batches_per_dataloader.clear()
        val_loop._seen_batches_per_dataloader.update(ends["val_seen"])
        if ends["since_val_s"] is not None:
            trainer._last_val_time = self._clock.monotonic() - ends["since_val_s"]
        logging_state.restore(trainer, saved["logged"])
        for one in self.script.restore(self._without_pruned(saved.get("script"), pruned)):
            self.warn(f"The checkpoint holds {one.name}, which could not be restored: {one.why}.")
        if self.loaders is not None and saved["loaders"] is not None:
            self.loaders.put_rest(saved["loaders"])
        self.script.settled()
        self.validation.put_parts(saved.get("validation", ()))
        if saved["random"] is not None:
            self.randomness.set_randomness(saved["random"])

    def load_late(self) -> None:
        """Weights and optimizers that did not fit when Lightning loaded them; nothing where they did.

        Raises:
            StateMismatchError: they do not fit now either.
        """
        late, self.late = self.late, None
        if late is not None and late.is_needed:
            late.load(self.script)

    def _without_pruned(self, script: Any, pruned: Mapping[str, Any]) -> Any:
        """The script's state without the parameters and buffers of pruned parts, which have come back already."""
        if not pruned or not isinstance(script, Mapping):
            return script
        self.script.begin()
        module = self.trainer.lightning_module
        owners = {id(module.get_submodule(path.rpartition(".")[0])) for path in pruned}
        # A variable of the script's may hold a part of the module, and then it goes by that name.
        named = self.script.state.names_of(owners)
        done = {f"{owner}.{what}" for owner in named for what in ("_parameters", "_buffers")}
        return {**script, "nodes": [node for node in script.get("nodes", ()) if node["name"] not in done]}


def _drops_gradients(module: Any) -> bool:
    """Whether Lightning zeroes them before each step: not where the script does, or has a hook of its own for it."""
    hook = type(module).optimizer_zero_grad
    own = hook.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning")
    return module.automatic_optimization and not own and "optimizer_zero_grad" not in vars(module)


def _marks(tensors: Iterable[Any]) -> list[Any]:
    """What changes when somebody exchanges the weights: where they lie, torch's own count of changes, a few values."""
    parameters = sorted(tensors, key=lambda p: -p.numel())
    places = [(p.data_ptr(), p._version) for p in parameters]
    samples = [p.detach().flatten()[:: max(1, p.numel() // 8)][:8].tolist() for p in parameters[:4]]
    return [places, samples]


def is_ours(states: Mapping[str, Any]) -> bool:
    """Whether a loaded checkpoint was made by this adapter."""
    ours = states.get(OURS)
    return (
        checkpoint_file.NAME in states and isinstance(ours, Mapping) and isinstance(ours.get("ranks"), list)
    )
