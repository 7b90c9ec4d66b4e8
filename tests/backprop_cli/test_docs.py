"""`backprop docs` shows the documentation without a network."""

import json

from tests.backprop_cli.commandline import CommandLine


def test_a_page_is_found_by_its_name_and_shown(backprop: CommandLine) -> None:
    """A page in a folder is found by its last word, too; the list names every page with its title."""
    assert backprop("docs", "spot").stdout.startswith("# A spot or preemptible machine")
    pages = json.loads(backprop("docs", "--json").stdout)
    assert {"page": "howto/spot", "title": "A spot or preemptible machine"}.items() <= pages[
        [one["page"] for one in pages].index("howto/spot")
    ].items()
    assert not [one["page"] for one in pages if one["page"].startswith("decisions/")]


def test_a_page_that_does_not_exist_names_the_nearest(backprop: CommandLine) -> None:
    """A misspelt name is answered with the line to type; one that several pages have, with all of them."""
    ran = backprop("docs", "troubleshoting")
    assert ran.returncode == 2
    assert "Did you mean 'backprop docs troubleshooting'?" in ran.stderr
    assert "tutorials/keras" in backprop("docs", "tutorials").stderr or backprop(
        "docs", "keras"
    ).stdout.startswith("# Keras")
