"""`backprop prove`, step by step: two whole runs, then one that is cut, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from backprop_cli.proof_runs import BoxOverError, Done, ProofRuns, ResumeFailedError, ScriptFailedError
from backprop_core.errors import BackpropError
from backprop_core.prove.causes import Cause, cause_of
from backprop_core.prove.comparison import Compared
from backprop_core.prove.cuts import plan_cuts
from backprop_core.prove.scratch import differing_files
from backprop_core.prove.verdict import (
    Proof,
    ProofVerdict,
    compare_cut,
    mend_of_unkept,
    names_of_the_attempt,
    reproducible,
    rows_of,
    unkept_in,
    unread,
    without_effect,
)

Say = Callable[[str], None]
_MOST_NAMED = 8


def prove(runs: ProofRuns, steps: int, cuts: int, say: Say, *, seed: str = "") -> Proof:
    """The whole of it.

    Raises:
        ScriptFailedError: the script cannot be run at all.
    """
    try:
        return _prove(runs, steps, cuts, say, seed)
    except BoxOverError as error:
        return Proof(ProofVerdict.UNFINISHED, str(error))


def _prove(runs: ProofRuns, steps: int, cuts: int, say: Say, seed: str) -> Proof:
    say(f"training {steps} steps without interruption")
    first = runs.whole("whole")
    say("training them once more without interruption")
    second = runs.whole("again")
    compared, why = reproducible(first.streams, second.streams)
    if why is not None:
        return _not_reproducible(runs, compared, why, first, second, say)
    planned = plan_cuts(first.first_rank, cuts, seed)
    trained = max(one.step for one in first.first_rank.steps)
    if not planned:
        return Proof(
            ProofVerdict.UNFINISHED,
            f"The training ended after {_count(trained, 'step')}: too few to interrupt it.",
            steps=trained,
        )
    often = "once" if len(planned) == 1 else f"{len(planned)} times"
    say(f"interrupting them {often}: {', '.join(cut.text for cut in planned)}")
    try:
        cut = runs.cut("cut", planned)
    except ResumeFailedError as error:
        return Proof(
            ProofVerdict.DIFFERENT,
            str(error),
            cuts=[one.text for one in planned],
            group="resume",
            name="resume",
            mend="See what the script says, and what backprop says before it.",
        )
    before_cuts, why = reproducible(first.streams, [one for one in cut.streams if one.attempt == 1])
    if why is not None:  # two runs were alike by luck
        return _not_reproducible(runs, before_cuts, why, first, second, say)
    without = names_of_the_attempt(compared) | names_of_the_attempt(before_cuts)
    proof = _compared(first, second, cut, without, planned=len(planned))
    if trained < steps and proof.verdict is ProofVerdict.IDENTICAL:
        who = "The training" if first.over else "A time box of the script's own"
        ended = f"{who} ended after {_count(trained, 'step')}; {steps} were asked for."
        proof = replace(proof, notes=[ended, *proof.notes])
    return proof


def _compared(first: Done, second: Done, cut: Done, without: frozenset[str], *, planned: int) -> Proof:
    """The whole run and the cut one, without what belongs to an attempt, or cannot be read."""
    found = compare_cut(
        first.streams,
        cut.streams,
        without=without | unread(first.streams),
        files=first.files,
        files_again=second.files,
        files_cut=cut.files,
    )
    trained = max(one.step for one in first.first_rank.steps)
    proof = replace(
        _judged(found, cut, trained),
        not_compared=[
            *sorted(without),
            *sorted(f"file {name}" for name in differing_files(first.files, second.files)),
        ],
        unkept=unkept_in([*first.streams, *cut.streams]),
        seconds={"whole": first.seconds, "again": second.seconds, "cut": cut.seconds},
    )
    return replace(proof, notes=_notes(found, first, cut, planned, proof))


def _judged(found: Compared, cut: Done, trained: int) -> Proof:
    """Identical or different."""
    texts = [one.text for one in cut.cuts]
    cause = cause_of(found)
    if cause is not None:
        one = cause.difference
        return Proof(
            ProofVerdict.DIFFERENT,
            cause.sentence[:1].upper() + cause.sentence[1:],
            found.steps,
            texts,
            rows_of(found),
            one.name,
            one.group.value,
            one.step,
            one.after_cut,
            cause.depends,
            mend_of_unkept(one.name, cut.streams) or cause.mend,
        )
    missing = trained - max((one.step for stream in cut.streams for one in stream.steps), default=0)
    if missing > 0:
        return Proof(
            ProofVerdict.UNFINISHED,
            f"The interrupted run ended {_count(missing, 'step')} before the uninterrupted one.",
            found.steps,
            texts,
        )
    said = f"Bit-identical over {_count(found.steps, 'step')} and {_count(len(texts), 'cut')}."
    return Proof(ProofVerdict.IDENTICAL, said, found.steps, texts, rows_of(found))


def _notes(found: Compared, first: Done, cut: Done, planned: int, proof: Proof) -> list[str]:
    notes = []
    if not any(one.batches for one in first.first_rank.steps):
        notes.append("No batches were compared: backprop cannot see how the script reads its data.")
    if names := sorted(unread(first.streams)):
        notes.append(f"Not compared, because backprop cannot read such arrays: {_listed(names)}.")
    if len(cut.cuts) < planned:
        notes.append(
            f"{_count(planned - len(cut.cuts), 'cut')} did not happen: the training cannot be left there."
        )
    if proof.verdict is ProofVerdict.IDENTICAL:
        notes += [
            f"`{name}` was not restored by a resume, and had the right value again one step later."
            for name in without_effect(found, first.first_rank)[:10]
        ]
    return notes


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:_MOST_NAMED]) + more


def _not_reproducible(
    runs: ProofRuns, compared: Compared, why: Cause, first: Done, second: Done, say: Say
) -> Proof:
    """The script itself differs from run to run; a third run has the frameworks name the operation."""
    say("the two differ: training them once more with deterministic operations only")
    refused, note = _what_is_refused(runs, first)
    why = reproducible(first.streams, second.streams, refused)[1] or why
    one = why.difference
    return Proof(
        ProofVerdict.NOT_REPRODUCIBLE,
        "The script itself is not reproducible: two uninterrupted runs differ. "
        f"{why.sentence[:1].upper()}{why.sentence[1:]}",
        compared.steps,
        (),
        rows_of(compared),
        one.name,
        one.group.value,
        one.step,
        None,
        why.depends,
        why.mend,
        notes=[note] if note else [],
        seconds={"whole": first.seconds, "again": second.seconds},
    )


def _what_is_refused(runs: ProofRuns, first: Done) -> tuple[str, str]:
    """What a run with deterministic operations only tells: what was refused, and a sentence; empty for nothing."""
    try:
        third = runs.whole("deterministic", deterministic=True)
    except ScriptFailedError as error:
        named = "" if error.log is None else error.log.nondeterministic_operation()
        return named, f"Not deterministic, says the framework: {named}." if named else ""
    except BackpropError:
        return "", ""
    calls = ", ".join(third.first_rank.refuses)
    if not calls:
        return "", ""
    if reproducible(first.streams, third.streams)[1] is None:
        return "", f"With {calls} it matches the first run."
    return "", f"With {calls} nothing was refused: the cause lies elsewhere."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
