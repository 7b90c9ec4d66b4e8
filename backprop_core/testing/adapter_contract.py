"""What every adapter must do, as a test class: derive from it, name the module that trains, and run with pytest.

Two fresh processes train everything: the first whole, cut, and disturbed in each way, the second what goes on from there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backprop_core import contract
from backprop_core.testing.adapter_driver import STEPS

Told = Mapping[str, Mapping[str, Any]]

_BEFORE = {
    "outcome": "running",
    "checkpoint": None,
    "whole": False,
    "remaining": "never",
    "progress": 0.0,
    "run_id": "",
    "resumed_from": None,
}
_OUTCOMES = {
    "whole": "completed",
    "sigterm": "preempted",
    "ctrl-c": "stopped",
    "control": "stopped",
    "deadline": "timeboxed",
    "error": "failed",
}
_CUT = [name for name in _OUTCOMES if name not in ("whole", "error")]
"""Orders that leave the training in time."""
_ASIDE = "backprop: stepped aside from "


class AdapterContract(ABC):
    """Derive, implement `driver`, and run with pytest.

    Attributes:
        faults_are_raised: a fault of ours is an error in the script, as in `backprop.timebox`, which the script has written.
        limit_s: how long one of the two processes may take.
    """

    faults_are_raised = False
    limit_s = 300.0

    @classmethod
    @abstractmethod
    def driver(cls) -> str:
        """The name of a module that implements `adapter_driver.Driver`, as `python -m` finds it here."""

    @classmethod
    def environment(cls) -> Mapping[str, str]:
        """Variables that the driver needs besides."""
        return {}

    @pytest.fixture(scope="class")
    def home(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("contract")

    @pytest.fixture(scope="class")
    def told(self, request: pytest.FixtureRequest, home: Path) -> Told:
        """What came of the trainings of the first process."""
        strikes = [*_CUT, "error", "fault"]
        orders: dict[str, Any] = {"bare": {"keywords": None}, "whole": {"keywords": {"run": "whole"}}}
        for place, strike in enumerate(strikes):
            orders[strike] = {
                "keywords": {"run": strike, "grace": 0},
                "strike": strike,
                "at": 2 + 2 * place % 9,
            }
        orders["unknown run"] = {"keywords": {"run": "never-seen", "resume": True}}
        return _processed(request.cls, home, orders)

    @pytest.fixture(scope="class")
    def resumed(self, request: pytest.FixtureRequest, home: Path, told: Told) -> Told:
        """What came of the trainings of the second process, which go on from the first's."""
        orders: dict[str, Any] = {name: {"keywords": {"run": name}} for name in (*_CUT, "whole")}
        orders["resume=True"] = {"keywords": {"run": "whole", "resume": True}}
        orders["resume=False"] = {"keywords": {"run": "control", "resume": False}}
        path = told["sigterm"]["facts"]["after"]["checkpoint"]
        orders["resume=path"] = {"keywords": {"run": "from-path", "resume": path}}
        return _processed(request.cls, home, orders)

    # -- whole -------------------------------------------------------------------------------------------------

    def test_a_box_changes_no_bit(self, told: Told) -> None:
        """Trained in a box to its end, the result is that of the training without one, by as many steps."""
        assert told["whole"]["digest"] == told["bare"]["digest"] != ""
        assert told["whole"]["steps"] == told["bare"]["steps"] == STEPS

    def test_the_facts_before_a_training(self, told: Told) -> None:
        """There is no run and no deadline yet, and to ask is no error."""
        for name, made in told.items():
            if made["facts"]:
                assert made["facts"]["before"] == _BEFORE, name

    def test_the_facts_in_a_training(self, told: Told, resumed: Told) -> None:
        """The run, the seconds that are left, and what was gone on from are known in the first step."""
        for name in _OUTCOMES:
            facts = told[name]["facts"]["in"]
            assert (facts["outcome"], facts["run_id"], facts["resumed_from"]) == ("running", name, None)
            assert 0 < facts["remaining"] < 36_001
            assert 0 <= facts["progress"] < 1
        for name in _CUT:
            assert resumed[name]["facts"]["in"]["resumed_from"] == told[name]["facts"]["after"]["checkpoint"]

    # -- ends --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", _OUTCOMES)
    def test_what_an_end_is_called(self, told: Told, name: str) -> None:
        """Each way to end a training has its outcome, in the facts and in the events, where it stands once."""
        made = told[name]
        assert made["facts"]["after"]["outcome"] == _OUTCOMES[name]
        assert made["finished"] == [_OUTCOMES[name]]
        assert made["facts"]["after"]["run_id"] == name

    @pytest.mark.parametrize("name", _CUT)
    def test_what_is_left_in_time_is_saved(self, told: Told, name: str) -> None:
        """The code behind the training goes on, and a checkpoint of the last step is there."""
        made = told[name]
        assert made["error"] == ""
        assert made["steps"] < STEPS
        after = made["facts"]["after"]
        assert after["whole"]
        assert int(Path(after["checkpoint"]).name.partition("-")[2].partition("-")[0]) == made["steps"]

    def test_the_scripts_error_stays_the_scripts(self, told: Told) -> None:
        """It comes out of the training as it was raised."""
        assert told["error"]["error"].startswith("ScriptError: of the script")

    def test_a_fault_of_ours_costs_no_training(self, told: Told) -> None:
        """The training ends with the bits that it has without us, and one line says that we have stepped aside; a box
        that the script has written itself raises the error.
        """
        made = told["fault"]
        if self.faults_are_raised:
            assert made["error"] == "RuntimeError: planted by the contract"
            assert made["finished"] == ["failed"]
            return
        assert (made["digest"], made["error"]) == (told["bare"]["digest"], "")
        assert len([line for line in made["said"] if line.startswith(_ASIDE)]) == 1, made["said"]
        assert made["finished"] == ["failed"]

    def test_everything_is_put_back(self, told: Told) -> None:
        """Behind each end the framework's classes, and the handlers of signals, are what they were."""
        for name, made in told.items():
            assert made["handlers"] == told["bare"]["handlers"], name
            if name != "bare":  # what the first box of a process replaces for good is there from then on
                assert made["patched"] == told["whole"]["patched"], name

    # -- going on ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", _CUT)
    def test_a_cut_training_ends_with_the_same_bits(self, told: Told, resumed: Told, name: str) -> None:
        """Gone on in a fresh process it takes the steps that were left, and the result is that of the whole one."""
        made = resumed[name]
        assert made["error"] == ""
        assert made["digest"] == told["bare"]["digest"]
        assert told[name]["steps"] + made["steps"] == STEPS
        assert made["facts"]["after"]["outcome"] == "completed"

    @pytest.mark.parametrize("name", ["whole", "resume=True"])
    def test_what_is_completed_is_not_trained_again(self, told: Told, resumed: Told, name: str) -> None:
        """It is passed over, with its final state in place."""
        made = resumed[name]
        assert (made["error"], made["steps"]) == ("", 0)
        assert made["digest"] == told["bare"]["digest"]
        assert made["facts"]["after"]["outcome"] == "completed"

    def test_resume_false_begins_anew(self, told: Told, resumed: Told) -> None:
        """All steps are trained, in a run of their own."""
        made = resumed["resume=False"]
        assert (made["steps"], made["digest"]) == (STEPS, told["bare"]["digest"])
        assert made["facts"]["after"]["resumed_from"] is None

    def test_resume_takes_a_path(self, told: Told, resumed: Told) -> None:
        """A new run goes on from the checkpoint of another one."""
        made, before = resumed["resume=path"], told["sigterm"]
        assert made["digest"] == told["bare"]["digest"]
        assert made["steps"] == STEPS - before["steps"]
        assert made["facts"]["after"]["resumed_from"] == before["facts"]["after"]["checkpoint"]

    def test_resume_true_insists(self, told: Told) -> None:
        """Where there is nothing to go on from it is an error, before the first step."""
        made = told["unknown run"]
        assert made["error"].partition(":")[0].endswith("Error")
        assert "never-seen" in made["error"]
        assert made["facts"]["after"]["outcome"] == "failed"
        assert made["steps"] == 0


def _processed(suite: type[AdapterContract], home: Path, orders: Mapping[str, Any]) -> Told:
    own = {key: value for key, value in os.environ.items() if not key.startswith((contract.PREFIX, "SLURM_"))}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "backprop_core.testing.adapter_driver", suite.driver()],
        input=json.dumps(orders),
        env={**own, contract.HOME: str(home), "OMP_NUM_THREADS": "1", **suite.environment()},
        capture_output=True,
        text=True,
        timeout=suite.limit_s,
        check=False,
    )
    sys.stderr.write(ended.stderr[-20_000:])
    assert ended.returncode == 0, f"status {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-6000:]}"
    made: Told = json.loads(ended.stdout.splitlines()[-1])
    return made
