"""The command line as users meet it: the installed command in a process of its own, in a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from PIL import Image

from parity.contract import initial_weights
from parity.data import load_weights, save_weights
from tests.conftest import small_arrays

PARITY = Path(sys.executable).with_name("parity")
FAKES = Path(__file__).with_name("fakes.py")


@pytest.fixture
def folder(tmp_path):
    """A user's folder: implementations in fakes.py, images in small.npz."""
    shutil.copy(FAKES, tmp_path)
    np.savez(tmp_path / "small.npz", **small_arrays())
    return tmp_path


def start(folder, *arguments):
    """The page has tests of its own: where none is asked for, none is written."""
    if arguments[:1] == ("run",) and len(arguments) > 1 and not {"--report", "--help"} & set(arguments):
        arguments = (*arguments, "--no-report")
    return subprocess.Popen(
        [PARITY, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # An empty cache folder: a copy of CIFAR-10 on this machine must not change what `auto` means.
        # Matplotlib's font cache lies elsewhere, or every test would build it anew.
        env={"MPLCONFIGDIR": str(Path(tempfile.gettempdir()) / "parity-tests-matplotlib")}
        | os.environ
        | {"XDG_CACHE_HOME": str(folder / "cache")},
    )


def parity(folder, *arguments):
    """Exit code, output, error output."""
    with start(folder, *arguments) as process:
        out, err = process.communicate()
    return process.returncode, out, err


RUN = ("run", "fakes:honest", "fakes:honest", "--data", "small.npz")


MATCH = "verdict: match: same formula in float64, inside its own envelope"


def test_a_match_prints_everything_and_exits_0(folder):
    code, out, err = parity(folder, *RUN, "--json", "report.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "data: small.npz, 102 + 40 images"
    assert "SGD: lr 0.001, momentum 0.9" in lines
    assert any(line.startswith("float64, first 78 steps: match") for line in lines)
    assert sum(line.startswith("[1, ") and "] loss: " in line for line in lines) == 10
    assert [line.split()[1:3] for line in lines if line.startswith(("[1] ", "[2] ", "[3] "))] == [
        ["test", "accuracy:"]
    ] * 3
    assert any(
        line.split() == ["first", "test", "images", "ground", "truth", "fakes:honest#1", "fakes:honest#2"]
        for line in lines
    )
    assert any(line.startswith("  airplane") for line in lines)
    assert "  the two sides predict the same class for 100.00 % of the test images" in lines
    assert "beside 4 runs of fakes:honest#1 whose weights begin one ulp away:" in lines
    assert "  largest gap: 0 % of what the ensemble allows" in lines
    assert lines[-2:] == [f"{MATCH} in float32 (all steps)", "wrote report.json: the report"]
    assert max(map(len, lines[:-2])) <= 80


def test_without_an_ensemble_only_float64_is_judged(folder):
    code, out, _ = parity(folder, *RUN, "--ensemble", "0")
    assert code == 0
    assert "beside" not in out
    assert out.splitlines()[-1] == "verdict: match in float64; float32 reported, not judged"


def test_the_json_report_holds_what_was_printed(folder):
    code, out, _ = parity(folder, *RUN, "--json", "report.json", "--lr", "0.01", "--seed", "3", "--epochs", "2")
    assert code == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["format"] == "parity.report/1"
    assert report["command"][:2] == ["parity", "run"]
    assert report["settings"]["sgd"]["lr"] == 0.01
    assert (report["settings"]["seed"], report["settings"]["dtype"]) == (3, "float32")
    assert {"numpy", "torch", "jax", "parity"} <= report["environment"]["packages"].keys()
    assert report["environment"]["cores"] >= 1
    assert report["device"] == "cpu"
    assert report["weights"]["origin"] == "drawn from seed 3"
    assert (report["data"]["name"], len(report["data"]["sha256"])) == ("small", 64)
    assert report["ending"] == {"kind": "complete", "phase": "training", "detail": None, "exit_code": 0}
    assert report["verdict"]["outcome"] == "match"
    assert report["comparison"]["agreement"] == 1
    assert len(report["windows"]) == 20
    for window in report["windows"]:
        assert f"[{window['epoch']}, {window['step']:5d}] loss:" in out
        assert f"{window['losses'][0]:.3f}" in out
    for side in report["sides"]:
        assert f"{100 * side['predictions']['accuracy']:.2f} %" in out
        assert len(side["predictions"]["accuracy_per_class"]) == 10


def test_a_reader_of_the_old_report_never_sees_the_new_one(folder):
    parity(folder, *RUN, "--json", "r.json")
    before = (folder / "r.json").read_text()
    with (folder / "r.json").open() as reader:
        assert parity(folder, *RUN, "--json", "r.json", "--seed", "1")[0] == 0
        assert reader.read() == before
    assert json.loads((folder / "r.json").read_text())["settings"]["seed"] == 1


@pytest.mark.parametrize(("wrong", "dtype"), [("wrong_lr", "float32"), ("wrong_momentum", "float64")])
def test_a_difference_exits_1_and_names_where(folder, wrong, dtype):
    code, out, err = parity(folder, "run", "fakes", f"fakes:{wrong}", "--data", "small.npz", "--dtype", dtype)
    assert (code, err) == (1, "")
    assert "differs; first " in out
    stage = {"wrong_lr": "step 0, update, fc3.weight", "wrong_momentum": "step 1, momentum, fc3.weight"}[wrong]
    assert out.splitlines()[-1].startswith(f"verdict: differs in formula at {stage}: ")


def test_a_fault_of_float32_alone_is_one_of_precision(folder):
    code, out, _ = parity(folder, "run", "fakes", "fakes:drifting", "--data", "small.npz")
    assert code == 1
    assert "float64, first 78 steps: match" in out
    last = out.splitlines()[-1]
    assert last.startswith("verdict: differs in precision at step 0, update, fc3.bias: ")
    assert last.endswith("float64 matched in this step")


def test_the_embedded_set_needs_nothing_and_says_so(folder):
    code, out, _ = parity(folder, "run", "fakes", "fakes", "--steps", "30")
    assert code == 0
    assert out.splitlines()[0].startswith("data: the embedded set (drawn shapes, not CIFAR-10), 10,000 + 2,000 images")
    assert "accuracy on the test images of embedded" in out


def test_training_one_side_saves_weights_that_start_another_run(folder):
    code, out, err = parity(
        folder, "train", "torch_impl", "--data", "small.npz", "--steps", "30", "--save-weights", "w.safetensors"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["trained", "wrote w.safetensors: the weights of torch_impl after 30 steps"]
    weights = load_weights(folder / "w.safetensors")
    assert weights["fc1.weight"].dtype == np.float32
    assert not np.array_equal(weights["fc1.weight"], initial_weights(0)["fc1.weight"])
    code, out, err = parity(
        folder, "run", "--data", "small.npz", "--steps", "1", "--weights", "w.safetensors", "--save-weights", "out"
    )
    assert (code, err) == (0, "")
    assert "initial weights: w.safetensors" in out
    with safetensors.safe_open(folder / "w.safetensors", "np") as file:
        assert file.metadata() == {"implementation": "torch_impl", "data": "small.npz", "steps": "30"}
    saved = sorted((folder / "out").iterdir())
    assert [path.name for path in saved] == ["jax_impl.safetensors", "torch_impl.safetensors"]
    for path in saved:
        # One step of lr 0.001 does not carry the weights far from those it started with.
        np.testing.assert_allclose(load_weights(path)["fc1.weight"], weights["fc1.weight"], atol=1e-3)


def test_the_twins_match_in_float64(folder):
    code, out, err = parity(folder, "run", "--data", "small.npz", "--dtype", "float64", "--epochs", "1")
    assert (code, err) == (0, "")
    assert "torch_impl: torch " in out
    assert "jax_impl: jax " in out
    assert out.splitlines()[-1] == f"{MATCH} in float64 (all steps)"


def paths_match(folder, *arguments):
    code, out, _ = parity(folder, "run", *arguments, "--data", "small.npz", "--dtype", "float64", "--steps", "30")
    return (code, out.splitlines()[-1]) == (0, f"{MATCH} in float64 (all steps)")


def test_plain_and_fast_match(folder):
    assert paths_match(folder, "jax_impl:plain", "jax_impl:fast")


def test_eager_and_fast_match(folder):
    assert paths_match(folder, "torch_impl:eager", "torch_impl:fast")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler for the CPU")
def test_eager_and_compiled_match(folder):
    """In a process of its own also because torch cannot compile functions whose annotations pytest checks."""
    assert paths_match(folder, "torch_impl:eager", "torch_impl:compiled")


SCHEDULED = ("--schedule", "linear:total_iters=2+step:step_size=1,gamma=0.5", "--clip-norm", "0.5", "--no-decay-biases")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler for the CPU")
def test_eager_and_compiled_match_with_a_schedule(folder):
    assert paths_match(folder, "torch_impl:eager", "torch_impl:compiled", *SCHEDULED)


def test_a_schedule_per_epoch_is_said_and_kept(folder):
    data = ("--data", "small.npz", "--dtype", "float64", "--steps", "30", "--per", "epoch", "--json", "r.json")
    code, out, err = parity(folder, "train", "parity.oracle", *data, *SCHEDULED)
    assert (code, err) == (0, "")
    assert "clip_norm 0.5, biases not decayed" in out
    assert "schedule: SequentialLR(schedules=(LinearLR(" in out
    kept = json.loads((folder / "r.json").read_text())["settings"]["sgd"]
    assert (kept["schedule"]["every"], kept["schedule"]["milestones"]) == (26, [2])


@pytest.mark.parametrize(
    ("wrong", "dtype"), [("turns_nan", "float64"), ("turns_nan", "float32"), ("turns_nan_late", "float32")]
)
def test_a_loss_that_is_not_finite_exits_1_with_side_and_step(folder, wrong, dtype):
    code, out, err = parity(
        folder,
        "run",
        "fakes",
        f"fakes:{wrong}",
        "--data",
        "small.npz",
        "--dtype",
        dtype,
        "--epochs",
        "20",
        "--json",
        "r.json",
    )
    assert (code, err) == (1, "")
    step = 230 if wrong == "turns_nan_late" else 7
    assert f"not finite, fakes:{wrong}: the loss of step {step} is nan; try a smaller learning rate" in out
    assert "verdict: match" not in out
    report = json.loads((folder / "r.json").read_text())
    assert (report["ending"]["kind"], report["ending"]["exit_code"]) == ("not finite", 1)


def test_the_real_sides_stop_when_they_diverge(folder):
    code, out, _ = parity(folder, "run", "--data", "small.npz", "--lr", "1e200", "--dtype", "float64")
    assert code == 1
    assert "stopped in the training: not finite, torch_impl" in out


@pytest.mark.parametrize("late", ["", "_late"])
def test_ctrl_c_says_what_was_kept(folder, late):
    """fakes:interrupted sends itself the signal that Ctrl-C sends, in the float64 check or in the training."""
    command = ("run", "fakes", f"fakes:interrupted{late}", "--data", "small.npz", "--epochs", "20")
    code, out, err = parity(folder, *command, "--json", "r.json", "--save-weights", "weights")
    assert (code, err) == (130, "")
    steps = 208 if late else 52
    phase = "training" if late else "float64 check"
    assert f"stopped in the {phase}: interrupted, after {steps} steps" in out
    assert "wrote r.json: the report" in out
    assert json.loads((folder / "r.json").read_text())["ending"]["kind"] == "interrupted"
    # The float64 check's weights are not the run's.
    assert (len(list((folder / "weights").iterdir())) == 2) if late else not (folder / "weights").exists()
    code, out, err = parity(folder, *command)
    assert code == 130
    assert out.splitlines()[-1] == "nothing was kept; --json and --save-weights keep what there is"


def test_a_real_ctrl_c_while_the_twins_train(folder):
    with start(folder, "train", "jax_impl", "--data", "embedded", "--epochs", "500", "--json", "r.json") as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("[1, "):
            assert process.poll() is None
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "stopped in the training: interrupted, after " in out
    assert json.loads((folder / "r.json").read_text())["steps"] > 0


def test_a_reader_that_goes_away_is_no_traceback(folder):
    with start(folder, *RUN, "--epochs", "200") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


BAD = {
    "missing file": (("--data", "none.npz"), "parity: --data none.npz: No such file"),
    "not npz": (("--data", "fakes.py"), "parity: --data fakes.py: truncated, or not an .npz file"),
    "batch 0": (("--batch-size", "0"), "parity: --batch-size 0: it is less than 1"),
    "batch too large": (("--batch-size", "103"), "parity: --batch-size 103: the training set has 102 images"),
    "nesterov alone": (("--nesterov", "--momentum", "0"), "parity: --nesterov True: Nesterov momentum requires"),
    "nesterov dampened": (
        ("--nesterov", "--dampening", "0.1"),
        "Nesterov momentum requires a momentum and zero dampening",
    ),
    "negative lr": (("--lr", "-1"), "parity: --lr -1.0: Invalid learning rate: -1.0; give a finite number"),
    "schedule misspelt": (
        ("--schedule", "stp:step_size=3"),
        "parity: --schedule stp:step_size=3: there is no kind 'stp'",
    ),
    "schedule that ends": (
        ("--schedule", "onecycle:max_lr=0.1,total_steps=5"),
        "parity: --schedule onecycle: Tried to step 77 times. The specified number of total steps is 5; give it more",
    ),
    "per what": (("--per", "day"), "parity: --per day: unknown; give step or epoch"),
    "two ways to clip": (("--clip-norm", "1", "--clip-value", "1"), "parity: --clip-norm 1.0: clip_value is given too"),
    "lr not a number": (("--lr", "fast"), "Invalid value for '--lr': 'fast' is not a valid float"),
    "unknown device": (("--device", "tpu"), "parity: --device tpu: unknown; give one of: auto, cpu, cuda"),
    "unknown dtype": (("--dtype", "half"), "parity: --dtype half: unknown; give one of: float32, float64"),
    "weights missing": (("--weights", "none"), "parity: --weights none: No such file"),
    "weights not safetensors": (("--weights", "small.npz"), "parity: --weights small.npz: not a safetensors file"),
    "weights ill-shaped": (("--weights", "bad.safetensors"), "tensor fc3.bias has shape (11,), not (10,)"),
    "json folder": (("--json", "no/r.json"), "parity: --json no/r.json: the folder"),
    "weights folder": (("--save-weights", "no/folder"), "parity: --save-weights no/folder: the folder"),
    "weights into a file": (("--save-weights", "fakes.py"), "parity: --save-weights fakes.py: it is a file"),
    "lr beyond float32": (("--lr", "1e39"), "parity: --lr 1e+39: float32 cannot hold it; give a smaller number"),
    "no cuda": (("--device", "cuda"), "parity: --device cuda: fakes:honest#1 has no such device here; use cpu"),
    "one name for two files": (("--json", "o", "--save-weights", "o"), "--json o: --save-weights names the same file"),
    "device as output": (("--json", "/dev/null"), "parity: --json /dev/null: it is not a regular file"),
    "folder before other faults": (("--save-weights", "new", "--lr", "-1"), "Invalid learning rate"),
    "option misspelt": (("--epoch", "3"), "Did you mean"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(folder, case):
    save_weights(folder / "bad.safetensors", {**initial_weights(0), "fc3.bias": np.zeros(11, np.float32)})
    before = sorted(folder.rglob("*"))
    arguments, expected = BAD[case]
    code, out, err = parity(folder, *RUN, *arguments)
    assert code == 2
    assert expected in err
    assert len(err.splitlines()) == 1
    assert "verdict" not in out
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "fakes:nothing"), "parity: implementation fakes:nothing: module 'fakes' has no attribute 'nothing'"),
        (("run", "no_module"), "parity: implementation no_module: module 'no_module' does not import"),
        (("run", "script", "fakes"), "parity: implementation script: module 'script' does not import (SystemExit: 0)"),
        (("train", "fakes:no_momentum"), "'no_momentum' has no method 'momentum'"),
        (("train",), "Missing argument 'IMPLEMENTATION'"),
        (("trian",), "No such command 'trian'"),
        (("data", "show", "--out", "no/x.png"), "parity: --out no/x.png: the folder"),
    ],
)
def test_a_bad_name_is_one_line(folder, arguments, expected):
    (folder / "script.py").write_text("import sys; sys.exit(0)")
    code, _, err = parity(folder, *arguments)
    assert code == 2
    assert expected in err
    assert len(err.splitlines()) == 1


def test_cuda_where_there_is_none_is_one_line(folder):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    code, _, err = parity(folder, "train", "torch_impl", "--device", "cuda", "--data", "small.npz")
    assert code == 2
    assert err == "parity: --device cuda: torch_impl has no such device here; use cpu\n"


def test_weights_in_another_layout_are_refused(folder):
    wrong = {**initial_weights(0), "fc1.weight": initial_weights(0)["fc1.weight"].T.copy()}
    safetensors.numpy.save_file(wrong, folder / "w.safetensors")
    code, _, err = parity(folder, *RUN, "--weights", "w.safetensors")
    assert code == 2
    assert "tensor fc1.weight has shape (400, 120), not (120, 400)" in err


def test_show_writes_a_labelled_grid(folder):
    code, out, err = parity(folder, "data", "show", "--data", "small.npz", "--batch-size", "16", "--out", "grid.png")
    assert (code, err) == (0, "")
    assert "wrote grid.png and grid.svg: the first training batch of seed 0, 16 images" in out
    assert (folder / "grid.svg").read_text(encoding="utf-8").startswith("<?xml")
    with Image.open(folder / "grid.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(np.unique(np.asarray(image))) > 50


@pytest.mark.parametrize("command", [(), ("run",), ("train",), ("data",), ("data", "fetch"), ("data", "show")])
def test_every_command_has_help(folder, command):
    code, out, err = parity(folder, *command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: parity")
    if len(command) and command != ("data",):
        assert "Example: parity" in out


def test_version(folder):
    assert parity(folder, "--version")[1] == "parity 0.1.0\n"


def test_fetch_without_a_connection_is_one_line(folder):
    """No proxy answers on this port, so that nothing is downloaded even where there is a connection."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [PARITY, "data", "fetch", "--data-dir", "home"]
    done = subprocess.run(command, cwd=folder, env=os.environ | nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--data-dir home: torchvision could not fetch or verify CIFAR-10 there" in done.stderr
    assert "check the connection" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", [(), ("data",)])
def test_a_command_without_a_subcommand_shows_the_help(folder, command):
    code, out, err = parity(folder, *command)
    assert code == 2
    assert len((out + err).splitlines()) > 5


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("raises", "parity: fakes:raises: run() raised RuntimeError: the user's own fault"),
        ("bad_logits", "parity: fakes:bad_logits: logits() returned shape (40,), not (40, 10)"),
        ("exits", "parity: fakes:exits: run() raised SystemExit: 0"),
        ("dies", "parity: a side ended the process with exit code 0; there is no result"),
        ("panics", "parity: fakes:panics: run() raised Panic: no Exception, as of an extension module"),
        ("bad_losses", "parity: fakes:bad_losses: run() returned list, not a NumPy array of floats"),
        ("no_driver", "parity: fakes:no_driver: devices() raised RuntimeError: driver too old"),
        (
            "bad_momentum",
            "parity: fakes:bad_momentum: momentum() returned other tensors than weights() at the start: other",
        ),
    ],
)
def test_a_side_that_breaks_is_an_error_and_never_a_verdict(folder, fault, problem):
    code, out, err = parity(folder, "run", f"fakes:{fault}", "fakes", "--data", "small.npz", "--dtype", "float64")
    assert code == 2
    assert err.splitlines()[-1] == problem
    assert "verdict" not in out
    assert ("Traceback" in err) == ("raised" in problem)


def test_a_new_folder_for_weights_is_made(folder):
    """A folder for weights is made when there is something to write, and only then."""
    assert parity(folder, *RUN, "--save-weights", "new", "--steps", "1")[0] == 0
    assert (folder / "new").is_dir()
