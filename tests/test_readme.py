"""What the README tells people to type is what CI runs, and what the command line has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("command", PARITY_COMMANDS)
def test_every_option_in_the_readme_exists(command):
    words = command.split()
    names = [
        word
        for word in words[1:3]
        if re.fullmatch(r"run|train|check|explain|drill|identify|study|bench|record|compare|data|show|fetch", word)
    ]
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
