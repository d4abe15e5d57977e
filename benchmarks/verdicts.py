"""Measures what the page on verdicts shows, keeps it in results/verdicts.json, and draws the figures of docs/.

    python -m benchmarks.verdicts             # measures and draws, two minutes
    python -m benchmarks.verdicts --figures   # only draws what is in the file of results

Everything is measured with the CNN on the embedded images. Each figure names the results that it was drawn from by
their SHA-256, in the SVG's description, so that a test can tell when one of them is stale.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from parity import Loader, Settings, load_data, resolve_sides, run_sides
from parity.checking import Check, check
from parity.compare.formula import EPS
from parity.contract import SGD, STAGES, AnyImplementation, Weights
from parity.data import replacing
from parity.environment import describe_environment
from parity.prepare import prepare
from parity.render.figure import GREY, PALETTE

ROOT = Path(__file__).parent.parent
RESULTS, FIGURES = ROOT / "results" / "verdicts.json", ROOT / "docs" / "figures"
FORMAT = "parity.verdicts/1"

TWINS = ("torch_impl", "jax_impl")
FAULTS = {"momentum": 1e-9, "lr": 1e-6}
"""By which share each of the optimizer's arguments is off in a faulty copy of a side."""


class Off:
    """A side whose optimizer has one argument that is off by a share of itself."""

    def __init__(self, inner: AnyImplementation, argument: str, share: float) -> None:
        self._inner, self._argument, self._share = inner, argument, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def start(self, weights: Weights, sgd: SGD, **where: str) -> Any:
        """As the side starts, with the argument changed."""
        value = getattr(sgd, self._argument) * (1 + self._share)
        return self._inner.start(weights, replace(sgd, **{self._argument: value}), **where)


def measure() -> dict[str, Any]:
    """Everything that is drawn."""
    torch_side, jax_side = resolve_sides(TWINS)
    honest = _check(torch_side.implementation, jax_side.implementation)
    low = _check("torch_impl.emulated:bfloat16", jax_side.implementation)
    return {
        "format": FORMAT,
        "environment": asdict(describe_environment()),
        "float64": [
            {"stage": stage, **{key: max(values) for key, values in _ulps(honest, stage).items()}}
            for stage in STAGES
            if _ulps(honest, stage)
        ],
        "faults": [
            {"argument": name, "share": share, **_broken(_check(torch_side.implementation, _off(name, share)))}
            for name, share in FAULTS.items()
        ],
        "float32": _errors(honest, low),
        "run": _run(),
    }


def _off(argument: str, share: float) -> Off:
    (side,) = resolve_sides(TWINS[1:])
    return Off(side.implementation, argument, share)


def _check(*implementations: str | AnyImplementation) -> Check:
    settings = Settings(device="cpu")
    prepared = prepare(*resolve_sides(implementations), settings=settings, dataset=load_data("embedded"))
    return check(prepared.sides, prepared.problem, settings)


def _ulps(found: Check, stage: str) -> dict[str, list[float]]:
    """The differences of a stage's tensors, and what the strictest of them allows."""
    rungs = [rung for rung in found.rungs if rung.place.stage == stage and rung.judged]
    if not rungs:
        return {}
    worst = max(rungs, key=lambda rung: rung.share)
    return {"difference": [worst.difference / EPS], "allowed": [worst.allowed / EPS]}


def _broken(found: Check) -> dict[str, Any]:
    """The worst tensor of the first stage that breaks."""
    first = next(rung for rung in found.rungs if rung.broken)
    return {"stage": first.place.stage, "step": first.step, "difference": first.difference / EPS}


def _errors(honest: Check, low: Check) -> list[dict[str, Any]]:
    """Each stage's largest float32 errors: the twins', and one side's whose products are as in bfloat16."""
    rows = []
    for stage in dict.fromkeys(tensor.place.stage for tensor in honest.rounding):
        mine = [tensor.errors for tensor in honest.rounding if tensor.place.stage == stage]
        lows = [tensor.errors.a for tensor in low.rounding if tensor.place.stage == stage]
        rows.append(
            {
                "stage": stage,
                "torch_impl": max(errors.a for errors in mine),
                "jax_impl": max(errors.b for errors in mine),
                "bfloat16": max(lows),
                "floor": max(errors.floor for errors in mine),
            }
        )
    return rows


def _run() -> dict[str, Any]:
    """An epoch of the twins beside an ensemble of four."""
    result = run_sides(
        resolve_sides(TWINS), load_data("embedded"), Settings(epochs=1, device="cpu"), ensemble=4, command=()
    )
    judgement, ensemble = result.report.judgement, result.run.ensemble
    if judgement is None or judgement.envelope is None or ensemble is None:
        raise SystemExit(f"the run ended before it could be judged: {result.report.ending}")
    around = judgement.envelope
    return {
        "steps": around.steps,
        "gaps": around.gaps,
        "limits": around.limits,
        "horizon": around.horizon,
        "side": around.side,
        "members": [list(spread.members) for spread in ensemble.spreads],
    }


def draw(results: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of the page, by the names of their files."""
    return {"stages": _stages(results), "precision": _precision(results), "envelope": _envelope(results["run"])}


def _canvas(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.grid(visible=True, axis="y", color="#E3E3E3", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _name_stages(axes: Any, stages: Iterable[str]) -> None:
    stages = list(stages)
    axes.set_xticks(range(len(stages)), stages, rotation=30, ha="right")


def _stages(results: Mapping[str, Any]) -> Figure:
    """Differences in float64, in ulp; a difference of 0 is drawn at the bottom."""
    figure, axes = _canvas(3.9)
    rows = [row for row in results["float64"] if row["stage"] != "batch"]
    places = {row["stage"]: number for number, row in enumerate(rows)}
    axes.plot([row["allowed"] for row in rows], "_", color=PALETTE[0], markersize=26, label="what rounding may reach")
    values = [max(row["difference"], 1e-2) for row in rows]
    axes.plot(values, "o", color=PALETTE[5], label="torch_impl and jax_impl")
    for fault, marker, color in zip(results["faults"], "^s", (PALETTE[4], PALETTE[1]), strict=True):
        label = f"{fault['argument']} off by {fault['share']:g} of itself"
        axes.plot(places[fault["stage"]], fault["difference"], marker, color=color, label=label)
    _name_stages(axes, places)
    axes.set_ylabel("relative difference, ulp of float64")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def _precision(results: Mapping[str, Any]) -> Figure:
    """Each side's own float32 error."""
    figure, axes = _canvas(3.9)
    rows = results["float32"]
    for key, marker, color, label in (
        ("bfloat16", "s", PALETTE[4], "torch, products as in bfloat16 (emulated)"),
        ("torch_impl", "o", PALETTE[5], "torch_impl"),
        ("jax_impl", "x", PALETTE[1], "jax_impl"),
        ("floor", "_", PALETTE[0], "floor: smaller errors count as this"),
    ):
        size = 26 if key == "floor" else 6
        axes.plot([row[key] for row in rows], marker, color=color, label=label, markersize=size, fillstyle="none")
    _name_stages(axes, (row["stage"] for row in rows))
    axes.set_ylabel("error, relative to the side's float64 run")
    axes.set_ylim(1e-9, 30)
    axes.legend(loc="upper left", frameon=False, fontsize=8, ncols=2)
    return figure


def _envelope(run: Mapping[str, Any]) -> Figure:
    """The pair's distance beside the members' and the limit; the horizon."""
    figure, axes = _canvas(3.6)
    for number, member in enumerate(np.transpose(run["members"])):
        label = f"{run['side']} and itself, one ulp away" if number == 0 else None
        axes.plot(run["steps"], member, color=GREY, linewidth=0.9, label=label)
    axes.plot(run["steps"], run["limits"], "--", color=PALETTE[4], label="four times the furthest so far")
    axes.plot(run["steps"], run["gaps"], color=PALETTE[5], linewidth=1.8, label="torch_impl and jax_impl")
    if run["horizon"] is not None:
        axes.axvline(run["horizon"], color=PALETTE[0], linewidth=0.8, linestyle=":")
        axes.annotate("horizon", (run["horizon"], 1), (4, -11), ("data", "axes fraction"), "offset points", fontsize=8)
    axes.set_xlabel("step")
    axes.set_ylabel("relative distance of the\nparameter tensor furthest apart")
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def images() -> Figure:
    """The first 16 training images of the first epoch, as the tutorial draws them."""
    data = load_data("embedded")
    plan = next(Loader(size=len(data.train_labels), batch_size=4, seed=0).plans(0))
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    for axes, row in zip(figure.subplots(2, 8).flat, plan[:4].flat, strict=True):
        axes.imshow(data.train_images[row])
        axes.set_title(data.classes[data.train_labels[row]], fontsize=8)
        axes.set_axis_off()
    return figure


def digest() -> str:
    """What a figure says of the results that it was drawn from."""
    return f"drawn from results/verdicts.json, SHA-256 {hashlib.sha256(RESULTS.read_bytes()).hexdigest()}"


def write_figures() -> None:
    """Draw all, from the file of results."""
    results = json.loads(RESULTS.read_text())
    with mpl.rc_context({"svg.hashsalt": "parity", "svg.fonttype": "none", "font.size": 9}):
        for name, figure in draw(results).items():
            with replacing(FIGURES / f"{name}.svg") as temporary:
                metadata = {"Date": None, "Description": digest()}
                figure.savefig(temporary, format="svg", metadata=metadata, facecolor="white")
    with replacing(FIGURES / "images.png") as temporary:
        images().savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def main() -> None:
    """Measure, unless only figures are asked for; draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", action="store_true", help="only draw")
    if not parser.parse_args().figures:
        with replacing(RESULTS) as temporary:
            temporary.write_text(json.dumps(measure(), indent=1) + "\n")
    write_figures()


if __name__ == "__main__":
    main()
