"""What the README tells people to type is what CI runs, and what the command line has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from parity.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(?:sh|console)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]

MAIN = "pip install . && parity run"
TEST = "pip install -e '.[test]' && pytest"


def test_the_two_set_up_commands_are_in_the_readme():
    assert MAIN in COMMANDS
    assert TEST in COMMANDS


def test_ci_runs_the_readmes_commands():
    listed = subprocess.run(["bash", ROOT / ".ci/run", "--list"], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines() == [MAIN, TEST]


def test_ci_follows_the_readme(tmp_path):
    """Were the README changed, CI would run something else."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_text((ROOT / ".ci/run").read_text())
    (tmp_path / "README.md").write_text(README.replace(MAIN, MAIN + " --epochs 1"))
    listed = subprocess.run(["bash", script, "--list"], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines() == [MAIN + " --epochs 1", TEST]


PARITY_COMMANDS = sorted({command for command in COMMANDS if command.startswith("parity ")})


def test_the_readme_shows_the_command_line():
    assert len(PARITY_COMMANDS) >= 5


def subcommands(words):
    """The names of commands that the words begin with, as the command line has them."""
    names, group = [], cli
    for word in words:
        if word not in getattr(group, "commands", {}):
            break
        names.append(word)
        group = group.commands[word]
    return names


def test_a_command_that_is_none_is_noticed():
    assert subcommands(["completion", "bash"]) == ["completion"]
    assert subcommands(["data", "show", "--out"]) == ["data", "show"]
    assert subcommands(["complete", "bash"]) == []


LINKS = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", README)
HEADINGS = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)


def anchor(heading):
    """As GitHub makes it: lower case, words joined by hyphens, without other signs."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("link", sorted({link for link in LINKS if "://" not in link}))
def test_every_relative_link_and_image_is_there(link):
    file, _, part = link.partition("#")
    assert (ROOT / file).exists(), link
    if part and not file:
        assert part in map(anchor, HEADINGS), link


def test_the_readme_has_links_and_a_picture():
    assert any(link.endswith(".png") for link in LINKS)
    assert len(LINKS) > 10


@pytest.mark.parametrize("command", PARITY_COMMANDS)
def test_every_option_in_the_readme_exists(command):
    words = command.split()
    names = subcommands(words[1:])
    assert names, f"{command}: parity has no command {words[1]}"
    done = subprocess.run(
        [sys.executable, "-m", "parity", *names, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readmes_python_runs(tmp_path):
    blocks = python_blocks()
    assert blocks
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
