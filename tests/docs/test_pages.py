"""Every Python block and every command of docs/ is run, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
from urllib.parse import urlsplit

import click
import pytest

import jax_impl
import torch_impl
from parity.cli import cli
from tests.docs.pages import DOCS, PAGES, Block, blocks, inline_commands
from tests.docs.running import run_page

TEXTS = {str(page.relative_to(DOCS)): page.read_text() for page in PAGES}
RUN = {"python", "console", "yaml"}
SHOWN = {"text", "toml", "{eval-rst}", "{toctree}"}
RUNNING = [name for name, text in TEXTS.items() if any(block.language in RUN for block in blocks(text))]


def test_the_pages_are_found():
    assert {"tutorial.md", "explanation.md", "semantics.md", "how-to/own-port.md"} <= TEXTS.keys()
    assert {"tutorial.md", "how-to/own-port.md", "how-to/ci.md", "how-to/two-machines.md", "how-to/gpu.md"} == {
        *RUNNING
    }


@pytest.mark.parametrize("name", RUNNING)
def test_a_page_runs_and_prints_what_it_shows(name, tmp_path):
    count = 0
    for ran in run_page(TEXTS[name], tmp_path, leave_out=_left_out):
        where = f"{name}, line {ran.block.line}:\n{ran.source}\nprinted\n{ran.printed}"
        assert ran.passed, where
        assert ran.as_shown, f"{where}\nand the page shows\n{ran.shown}"
        count += 1
    assert count


def _left_out(block: Block) -> bool:
    cuda = any("cuda" in side.devices() for side in (torch_impl.impl, jax_impl.impl))
    return "without CUDA" in block.marks and cuda


@pytest.mark.parametrize("name", TEXTS)
def test_every_block_is_of_a_kind_that_is_run_or_only_shown(name):
    assert {block.language for block in blocks(TEXTS[name]) if not block.caption} <= RUN | SHOWN


@pytest.mark.parametrize("name", TEXTS)
def test_inline_commands_are_understood(name):
    for command in inline_commands(TEXTS[name]):
        _parse(cli, shlex.split(command)[1:])


def _parse(command: click.Command, words: list[str]) -> None:
    """Parse the words as the command line does, and run nothing; a command alone may be named without arguments.

    Raises:
        click.UsageError: there is no such command or option.
    """
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        _, inner, rest = command.resolve_command(click.Context(command), words)
        assert inner
        _parse(inner, rest)
    else:
        command.make_context("parity", words, resilient_parsing=not words)


def test_an_inline_command_with_an_unknown_option_is_refused():
    with pytest.raises(click.UsageError, match="--no-such"):
        _parse(cli, ["check", "--no-such", "1"])
    with pytest.raises(click.UsageError, match="nothing"):
        _parse(cli, ["nothing"])


LINK = re.compile(r"\]\((https?://[^)\s]+)\)")


@pytest.mark.parametrize("name", TEXTS)
def test_links_to_other_sites_are_well_formed(name):
    for link in LINK.findall(TEXTS[name]):
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"(?:[a-z0-9-]+\.)+[a-z]{2,}", parts.netloc), link
        assert not re.search(r"[\s<>\"{}|\\^`]", link), link


@pytest.mark.parametrize("name", TEXTS)
def test_links_to_files_lead_somewhere(name):
    """Those that Sphinx cannot check: of files outside docs/."""
    for path in re.findall(r"\]\((\.\.?/[^)#\s]+)", TEXTS[name]):
        assert (DOCS / name).parent.joinpath(path).exists(), path
