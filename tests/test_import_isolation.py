"""Who may import whom: by import-linter on the source, and by really blocking modules in a fresh process."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Imports the named modules with others blocked, then walks every module of the packages.
WALK = """
import importlib, pkgutil, sys
blocked, packages = (set(words.split(",")) for words in sys.argv[1:])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
for name in packages:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""

FRAMEWORKS = "torch,torchvision,jax,jaxlib,flax,optax"


def walk(blocked: str, packages: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WALK, blocked, packages]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("blocked", "packages"),
    [
        (f"{FRAMEWORKS},torch_impl,jax_impl", "parity"),
        ("jax,jaxlib,flax,optax,jax_impl", "torch_impl"),
        ("torch,torchvision,torch_impl", "jax_impl"),
    ],
)
def test_a_room_imports_with_the_others_blocked(blocked, packages):
    done = walk(blocked, packages)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("blocked", "packages"), [("torch", "torch_impl"), ("jax", "jax_impl"), ("numpy", "parity")])
def test_the_block_can_fail(blocked, packages):
    done = walk(blocked, packages)
    assert done.returncode != 0
    assert "is blocked" in done.stderr


def test_a_run_without_any_framework_is_possible(tmp_path):
    """parity drives implementations that need none: nothing in it reaches for a framework when it runs."""
    code = WALK + (
        "from parity.cli import cli\n"
        "cli.main(['run', 'tests.fakes', 'tests.fakes:honest', '--steps', '20', '--data', 'embedded'])\n"
    )
    command = [sys.executable, "-c", code, FRAMEWORKS, "parity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verdict: match" in done.stdout


CONTRACT_ALONE = "an implementation, or a peer, sees the contract and nothing else of parity"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed: pip install -e '.[dev]'")
    # -c: import the copies in this folder, not the installed packages.
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    for name in ("parity", "parity_peers", "parity_widths", "torch_impl", "jax_impl"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_import_arrows_hold(copy):
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("parity/run.py", "import torch", "parity imports no implementation and no framework"),
        ("parity/compare/measure.py", "import jax_impl", "parity imports no implementation and no framework"),
        ("torch_impl/train.py", "import jax", "torch_impl never sees JAX"),
        ("jax_impl/train.py", "import torch", "jax_impl never sees torch"),
        ("jax_impl/train.py", "import torchvision", "torchvision is imported only where CIFAR-10 is fetched"),
        ("torch_impl/train.py", "import parity.data", CONTRACT_ALONE),
        ("parity_peers/eager.py", "import parity.data", CONTRACT_ALONE),
        ("parity_peers/eager.py", "import torch_impl", "a peer sees no implementation"),
        ("parity_peers/sgd.py", "import parity_peers.eager", "inside the peers, data flows one way"),
        ("parity_peers/reference/simd.py", "import parity_peers.reference.step", "inside the reference, data flows"),
        ("parity/run.py", "import parity_peers", "parity imports no implementation and no framework"),
        ("jax_impl/train.py", "import parity_peers", "jax_impl never sees torch"),
        ("parity/compare/measure.py", "import parity.run", "inside parity, data flows one way"),
        ("parity/oracle/layers.py", "import parity.data", "inside parity, data flows one way"),
        ("parity/bench/truth.py", "import parity.bench.race", "inside a benchmark, data flows one way"),
        ("parity/contract/sgd.py", "import parity.data", "inside parity, data flows one way"),
    ],
)
def test_each_arrow_can_break(copy, file, line, contract):
    path = copy / file
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(f"{contract}.* BROKEN", done.stdout)
