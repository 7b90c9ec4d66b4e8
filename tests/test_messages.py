"""What people read is listed in one file, so that a review sees every change of a word."""

from tests.messages import FILE, sentences, whole


def test_every_sentence_is_in_the_list() -> None:
    """`tests/messages.txt` holds every sentence that our packages can show, in its newest words."""
    assert FILE.read_text() == whole(), (
        "messages have changed: run `make messages` and commit tests/messages.txt"
    )


def test_a_sentence_is_found_wherever_it_stands(tmp_path) -> None:
    """Sentences in calls, variables, conditions and command helps are found; docstrings, names and programs are not."""
    module = tmp_path / "speaks.py"
    module.write_text(
        '''"""A docstring of a module."""
WHY = f"free {what.size} GB on {disk}"

@cli.command("go")
def go():
    """Help of a command."""
    say("one " + ("run" if n == 1 else "runs") + " left")
    exec("import sys")
    return {"a_key": 'two\\nwords'}
'''
    )
    assert sentences(module) == [
        "free {size} GB on {disk}",
        "one {run|runs} left",
        "two words",
        "Help of a command.",
    ]
