"""A script that ended well has ended well, whatever happened to our records in the meantime."""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine

DAMAGES = {
    "a home that is gone": "home.rename(f'{home}.gone'); home.write_text('a file')",
    "a run folder that is gone": "run.rename(home / 'gone')",
    "a torn record": "(run / 'run.json').write_text('{')",
    "a record that cannot be read": "(run / 'run.json').unlink(); (run / 'run.json').mkdir()",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("status", "outcome"), [(0, "completed"), (3, "failed")])
def test_the_scripts_own_end_counts(backprop: CommandLine, damage: str, status: int, outcome: str) -> None:
    """The status is the script's own, the last line says how it ended, and one sentence says what was not recorded."""
    backprop.script(
        f"""
        import os, pathlib, sys, time
        home, run = pathlib.Path(os.environ["BACKPROP_HOME"]), pathlib.Path(os.environ["BACKPROP_RUN_DIR"])
        while f'"pid": {{os.getpid()}}' not in (run / "run.json").read_text():
            time.sleep(0.01)  # the governor writes down who we are
        {DAMAGES[damage]}
        sys.exit({status})
        """
    )
    done = backprop("run", "train.py", "-f", "none")
    assert done.returncode == status, done.stderr
    assert f"{outcome} after" in done.stderr
    rebuilt = "record" in damage  # the store mends what it can
    what = "is damaged" if rebuilt else "end of this attempt could not be recorded"
    assert done.stderr.count(what) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_session_inside_the_script_goes_on_without_its_folder(backprop: CommandLine) -> None:
    """The run's folder goes while a time box trains in it: the loop runs to its end, and the status is 0."""
    backprop.script(
        """
        import os, shutil
        import backprop
        with backprop.timebox(losses=[]) as box:
            for step in box.steps(50):
                if step == 20:
                    shutil.rmtree(os.environ["BACKPROP_RUN_DIR"])
        print("behind the block", box.outcome)
        """
    )
    done = backprop("run", "train.py")
    assert done.returncode == 0, done.stderr
    assert "behind the block completed" in done.stdout
    assert "completed after" in done.stderr
    assert "Traceback" not in done.stderr
