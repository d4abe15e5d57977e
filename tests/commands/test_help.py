"""Every command's help fits the screen, and shows an example that can be typed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from parity.cli import cli


def commands(command=cli, names=()):
    """Every command and group, by the words that call it."""
    yield names, command
    for name, below in (command.commands if isinstance(command, click.Group) else {}).items():
        yield from commands(below, (*names, name))


ALL = dict(commands())


def parsed(words):
    """Parse a command line as far as the command itself, which is not run."""
    context, command = None, cli
    while isinstance(command, click.Group):
        context = command.make_context(command.name, list(words), parent=context)
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    return command.make_context(command.name, list(words), parent=context)


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_the_example_can_be_typed(names):
    result = CliRunner().invoke(cli, [*names, "--help"], terminal_width=80, prog_name="parity")
    assert result.exit_code == 0
    (example,) = re.findall(r"^ *Example: parity (.*)$", result.output, flags=re.MULTILINE)
    words = shlex.split(example)
    assert tuple(words[: len(names)]) == names
    assert parsed(words).command in ALL.values()
    assert max(map(len, result.output.splitlines())) <= 80


def test_an_example_that_cannot_be_typed_would_be_found():
    with pytest.raises(click.NoSuchOption):
        parsed(["run", "--no-such-option"])
    with pytest.raises(click.UsageError):
        parsed(["record", "torch_impl"])


def test_help_imports_no_numpy():
    """It takes half of the time in which help is to be there."""
    code = "import sys\nfrom parity.cli import _run\n_run()\nassert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "--help"], check=True, capture_output=True)
