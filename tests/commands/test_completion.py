"""Completion in a bash of its own: its function is called as bash calls it, with the line and the cursor at its end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
COMPLETE = """
eval "$(parity completion bash)"
line=$1
IFS=$' \\t\\n'
# bash takes words apart at these too.
read -ra COMP_WORDS <<< "$(sed 's/[:=]/ & /g' <<< "$line")"
[[ $line == *' ' ]] && COMP_WORDS+=("")
COMP_LINE=$line COMP_POINT=${#line} COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { local IFS=" "; echo "compopt $*"; }
function=$(complete -p parity | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function parity
printf '%s\\n' "${COMPREPLY[@]}"
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(
        "LIMIT = 3\nimpl = object()\nother: object = impl\n_hidden = 1\nraise SystemExit\n"
    )
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "side.py").write_text("wrong = right = None")
    return tmp_path


def completed(folder, line):
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", COMPLETE, "bash", line]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def test_commands_and_options(folder):
    assert completed(folder, "parity dri") == ["drill"]
    assert {"run", "check", "study"} <= set(completed(folder, "parity "))
    assert completed(folder, "parity run --batch") == ["--batch-size"]


def test_implementations_are_found_without_being_imported(folder):
    found = completed(folder, "parity run ")
    assert {"torch_impl", "jax_impl", "parity.oracle", "mine", "pack"} <= set(found)
    assert completed(folder, "parity run torch_impl:") == ["eager", "compiled", "fast", "impl"]
    assert completed(folder, "parity run torch_impl:ea") == ["eager"]
    assert completed(folder, "parity run torch_impl mine:") == ["impl", "other"]
    assert completed(folder, "parity check pack.s") == ["pack.side", "pack.side:wrong", "pack.side:right"]


def test_names_of_other_things(folder):
    assert completed(folder, "parity study neste") == ["nesterov"]
    assert completed(folder, "parity drill --fault kernel-axes-swapped-") == ["kernel-axes-swapped-by-layout"]
    assert completed(folder, "parity run --dtype ") == ["float32", "float64"]
    assert completed(folder, "parity run --dtype=float6") == ["float64"]
    assert completed(folder, "parity bench --peers nnx,light") == ["nnx,lightning"]
    assert set(completed(folder, "parity run --data em")) == {"embedded", "compopt -o default"}


def test_schedules_and_their_arguments(folder):
    assert completed(folder, "parity run --schedule cos") == ["compopt -o nospace", "cosine:"]
    assert completed(folder, "parity run --schedule step:ga") == ["compopt -o nospace", "gamma="]
    assert completed(folder, "parity run --schedule step:gamma=0.5,st") == ["compopt -o nospace", "0.5,step_size="]


def test_files(folder):
    """Bash itself completes them."""
    assert completed(folder, "parity run --json r") == ["compopt -o default"]
    assert completed(folder, "parity compare t") == ["compopt -o default"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_parity(folder, shell):
    done = subprocess.run([BIN / "parity", "completion", shell], capture_output=True, text=True, check=True)
    assert "_PARITY_COMPLETE" in done.stdout
    assert re.search(rf"{shell}_complete", done.stdout)
    if (program := shutil.which(shell)) and shell != "fish":
        subprocess.run([program, "-n", "-c", done.stdout], check=True)
