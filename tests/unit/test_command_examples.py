"""The help of each command ends with an example that the command line's own parser accepts."""

import shlex
from inspect import cleandoc

from tests.helpers.written_commands import fault_of_irt, irt_commands

MAX_CHARACTERS = 78
"""Length of a line of help on a terminal of 80 columns."""


def test_every_command_has_an_example_that_the_parser_accepts() -> None:
    examples = {name: (command.epilog or "").partition("\n\n")[0] for name, command in irt_commands()}
    assert [name for name, example in examples.items() if not f"{example} ".startswith(f"Example: {name} ")] == []
    assert [example for example in examples.values() if len(example) > MAX_CHARACTERS] == []
    words = [shlex.split(example.removeprefix("Example: irt")) for example in examples.values()]
    assert list(filter(None, map(fault_of_irt, words))) == []


def test_paragraphs_of_help_fit_on_a_terminal() -> None:
    """Only the first paragraph of a docstring is wrapped; the others keep their line breaks."""
    paragraphs = [cleandoc(command.help or "").partition("\n\n")[2] for _, command in irt_commands()]
    assert [line for text in paragraphs for line in text.splitlines() if len(line) > MAX_CHARACTERS] == []
