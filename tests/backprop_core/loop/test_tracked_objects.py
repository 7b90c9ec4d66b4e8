"""The objects that a box keeps, when the script gives their names to others."""

from __future__ import annotations

from backprop_core.loop.tracked_objects import TrackedObjects


class _Model:
    """Something with state."""

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        pass


def test_a_name_goes_to_what_the_script_calls_so_now_though_the_old_object_lives_on() -> None:
    """The second phase's optimizer is kept under its name; the first one, which something still holds, under another."""
    kept, first, second = TrackedObjects([]), _Model(), _Model()
    kept.find("optimizer", first)
    present = {"optimizer": second, "Adam": first}
    assert kept.displaced_by(present)
    kept.replace_found(present)
    assert kept.objects == {"optimizer": second, "Adam": first}


def test_names_that_only_swap_stay_as_they_were() -> None:
    """Both are known, so a checkpoint keeps them apart as before, whatever order they are found in."""
    kept, first, second = TrackedObjects([]), _Model(), _Model()
    kept.find("one", first)
    kept.find("two", second)
    swapped = {"one": second, "two": first}
    assert not kept.displaced_by(swapped)
    kept.replace_found(swapped)
    assert kept.objects == {"one": first, "two": second}


def test_what_a_checkpoint_has_is_kept_by_its_name_there() -> None:
    """What lay where the checkpoint says takes the name; what was found by that name before does not keep it."""
    kept, first, second, third = TrackedObjects([]), _Model(), _Model(), _Model()
    kept.find("opt", first)
    kept.find("one", second)
    kept.find("other", third)
    kept.place({"opt": second, "other": third, "none": object()})
    assert kept.objects == {"opt": second, "other": third}
