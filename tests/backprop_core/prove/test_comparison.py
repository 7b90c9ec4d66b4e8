"""Streams compared, and the cause that is named, without any training."""

from __future__ import annotations

from dataclasses import replace

from backprop_core.prove.causes import Cause, cause_of
from backprop_core.prove.comparison import compare
from backprop_core.prove.cuts import CutKind, plan_cuts
from backprop_core.prove.pieces import UNREAD, Group, Pieces
from backprop_core.prove.stream import Moment, Stream
from backprop_core.prove.verdict import reproducible, unread

_GROUPS = {
    "weight": Group.PARAMETER,
    "momentum": Group.OPTIMIZER,
    "torch": Group.GENERATOR,
    "scheduler.last_epoch": Group.SCHEDULER,
    "main.seen": Group.VARIABLE,
}


def _pieces(step: int, **other: str) -> Pieces:
    return {name: (group, other.get(name, f"{name} {step}")) for name, group in _GROUPS.items()}


def _moment(step: int, *, batches: list[str] | None = None, arrived: bool = False, **other: str) -> Moment:
    given = [f"batch {step}"] if batches is None else batches
    return Moment(step, (step - 1) // 5, (step - 1) % 5 + 1, _pieces(step, **other), given, arrived)


def _whole() -> list[Stream]:
    return [Stream(moments=[_moment(step) for step in range(11)])]


def _cut(*moments: Moment, began_at: int = 4) -> list[Stream]:
    first = Stream(moments=[_moment(step) for step in range(began_at + 1)])
    return [first, Stream(2, moments=list(moments), began_at=began_at)]


def test_the_same_is_the_same() -> None:
    """A cut run whose boundaries hold what the whole one's held has no cause to name, and all steps are counted once."""
    compared = compare(_whole(), _cut(_moment(4, batches=[], arrived=True), *map(_moment, range(5, 11))))
    assert compared.steps == 10
    assert not compared.differences
    assert cause_of(compared) is None
    assert compared.pieces[Group.PARAMETER] == 1


def test_an_array_that_nobody_can_read_is_not_counted_as_equal() -> None:
    """It has no digest: it is found by its name, and no piece of a comparison without it."""
    whole = [Stream(moments=[_moment(step, weight=UNREAD) for step in range(11)])]
    assert unread(whole) == {"weight"}
    assert Group.PARAMETER not in compare(whole, whole, without=unread(whole)).pieces


def test_what_a_resume_did_not_bring_back_is_the_cause() -> None:
    """Of all that differs a step later, the piece is named that was other right after the resume, before any step."""
    broken = {"weight": "x", "momentum": "x", "torch": "x", "main.seen": "x"}
    compared = compare(
        _whole(), _cut(_moment(4, batches=[], arrived=True, momentum="lost"), _moment(5, **broken))
    )
    cause = cause_of(compared)
    assert cause is not None
    assert (cause.difference.name, cause.difference.step, cause.difference.after_cut) == ("momentum", 5, 4)
    assert cause.seen_on_arrival


def test_a_shifted_batch_goes_before_what_it_changes() -> None:
    """Where everything was right on arrival, the batch is the cause of what differs, and it is said which one it was."""
    compared = compare(
        _whole(),
        _cut(
            _moment(4, batches=[], arrived=True),
            _moment(5, batches=["batch 6"], weight="x", torch="drawn from"),
        ),
    )
    cause = cause_of(compared)
    assert cause is not None
    assert cause.difference.group is Group.BATCH
    assert "are shifted: 1 ahead" in cause.sentence


def test_a_shift_within_a_window_is_told_in_batches() -> None:
    """Steps of two batches each, resumed one batch too early, are one behind."""
    whole = [Stream(moments=[_moment(step, batches=[f"{step} a", f"{step} b"]) for step in range(1, 6)])]
    cause = cause_of(compare(whole, [Stream(2, moments=[_moment(4, batches=["3 b", "4 a"])], began_at=3)]))
    assert cause is not None
    assert "are shifted: 1 behind" in cause.sentence


def test_another_number_of_batches_is_another_window() -> None:
    """A step that was made of fewer batches than in the whole run is named before anything else."""
    compared = compare(
        _whole(),
        _cut(_moment(4, batches=[], arrived=True, torch="x"), _moment(5, batches=[], torch="x", weight="x")),
    )
    cause = cause_of(compared)
    assert cause is not None
    assert cause.difference.group is Group.BATCH
    assert "were 0 for this step, and 1 in the whole run" in cause.sentence


def test_ranks_that_have_changed_places_are_told_from_each_other() -> None:
    """A rank that trains on another rank's batches is said to do so."""
    whole = [
        Stream(rank=rank, moments=[_moment(step, batches=[f"{rank} {step}"]) for step in range(4)])
        for rank in range(2)
    ]
    swapped = [Stream(2, rank, [_moment(3, batches=[f"{1 - rank} 3"])], began_at=2) for rank in range(2)]
    cause = cause_of(compare(whole, swapped))
    assert cause is not None
    assert "are those of rank 1" in cause.sentence


def test_a_skipped_boundary_costs_no_batches() -> None:
    """Where a run had fewer boundaries, the batches in between count together."""
    other = [Stream(moments=[_moment(0), _moment(2, batches=["batch 1", "batch 2"])])]
    assert not compare(_whole(), other).differences


def test_cuts_come_in_each_kind() -> None:
    """With four cuts there is one inside an epoch, one at its end, one in an evaluation and one by SIGKILL, in order."""
    whole = _whole()[0]
    whole.evaluations[5] = 8
    cuts = plan_cuts(whole, 4)
    assert {cut.kind for cut in cuts} == set(CutKind)
    assert [cut.step for cut in cuts] == sorted(cut.step for cut in cuts)
    end = next(cut for cut in cuts if cut.kind is CutKind.EPOCH_END)
    assert end.step == 5
    evaluation = next(cut for cut in cuts if cut.kind is CutKind.EVALUATION)
    assert (evaluation.step, evaluation.place) == (5, 4)
    assert plan_cuts(whole, 4) == cuts
    assert all(cut.step < 10 for cut in plan_cuts(whole, 9))


def _why(at: int, **other: str) -> Cause | None:
    """Two whole runs: the second differs from step `at` on, its Python generator, which never moves, from the beginning."""
    second = [_moment(step, **(other if step >= at else {})) for step in range(11)]
    unseeded = {"random generator python": (Group.GENERATOR, "x")}
    first = [
        replace(one, pieces=one.pieces | {"random generator python": (Group.GENERATOR, "y")})
        for one in _whole()[0].moments
    ]
    again = [replace(one, pieces=one.pieces | unseeded) for one in second]
    return reproducible([Stream(moments=first)], [Stream(moments=again)])[1]


def test_a_generator_that_nobody_draws_from_is_no_cause() -> None:
    """It differs from the beginning and stays as it is: what differs later in the training comes of something else."""
    assert _why(11) is None
    cause = _why(4, weight="x", momentum="x")
    assert cause is not None
    assert (cause.difference.name, cause.difference.step) == ("momentum", 4)


def test_a_generator_that_is_drawn_from_is_the_cause_of_what_differs_later() -> None:
    """One that begins otherwise is not seeded; one that comes to differ is drawn from in another order."""
    cause = _why(0, torch="x", weight="y")
    assert cause is not None
    assert (cause.difference.name, "not seeded" in cause.mend) == ("torch", True)
    cause = _why(4, torch="x", weight="x")
    assert cause is not None
    assert (cause.difference.name, "starts the same" in cause.mend) == ("torch", True)


def test_the_mend_seeds_what_is_not_seeded() -> None:
    """A generator of the script's own is not reached by the calls that seed the process's; of these only what differs."""

    def mend(*names: str) -> str:
        first = [
            replace(one, pieces=one.pieces | dict.fromkeys(names, (Group.GENERATOR, f"{one.step}")))
            for one in _whole()[0].moments
        ]
        again = [
            replace(
                one,
                pieces=one.pieces
                | dict.fromkeys(names, (Group.GENERATOR, f"{one.step} again"))
                | {"weight": (Group.PARAMETER, f"{one.step} again")},
            )
            for one in first
        ]
        cause = reproducible([Stream(moments=first)], [Stream(moments=again)])[1]
        assert cause is not None
        return cause.mend

    assert "random generator" not in mend("main.noise")
    assert "default_rng(0)" in mend("main.noise", "random generator python")
    assert mend("random generator torch cpu") == "It is not seeded: call torch.manual_seed(0) at the top."
    both = mend("random generator numpy", "random generator python")
    assert both == "It is not seeded: call random.seed(0), numpy.random.seed(0) at the top."


def test_a_training_is_killed_behind_a_checkpoint() -> None:
    """Behind the first step there is none yet: whatever the seed, the kill comes later."""
    kills = [
        cut
        for seed in map(str, range(50))
        for cut in plan_cuts(_whole()[0], 2, seed)
        if cut.kind is CutKind.KILL
    ]
    assert len(kills) == 50
    assert all(cut.save_at is not None and 1 <= cut.save_at < cut.step for cut in kills)


def test_an_operation_that_was_refused_goes_before_a_generator_that_never_moved() -> None:
    """An array that the operation has made differs from the beginning, as does a generator that nobody has seeded."""
    first = [
        replace(one, pieces=one.pieces | {"random generator python": (Group.GENERATOR, "y")})
        for one in _whole()[0].moments
    ]
    again = [
        replace(
            one,
            pieces=one.pieces
            | {"random generator python": (Group.GENERATOR, "x"), "weight": (Group.PARAMETER, "x")},
        )
        for one in first
    ]
    for refused, name in (("", "random generator python"), ("put_", "weight")):
        cause = reproducible([Stream(moments=first)], [Stream(moments=again)], refused)[1]
        assert cause is not None
        assert cause.difference.name == name
        assert ("put_" in cause.mend) == bool(refused)
