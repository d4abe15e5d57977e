"""Tables fit 80 columns with the longest names and numbers that are plausible; prose is broken by the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parity import oracle
from parity.checking import check
from parity.compare import Stage
from parity.contract import initial_weights
from parity.drill import BENIGN, CATALOGUE, OUTSIDE, Drilled
from parity.problem import cnn_problem
from parity.render.check import stage_table
from parity.render.drill import header, result_lines
from parity.render.terminal import epoch_line, window_line
from parity.render.terminal import header as run_header
from parity.running.history import EpochResult, Window
from parity.settings import Settings, Side

WIDTH = 80
LONG = "examples.transformer.jax_transformer:with_the_tanh_gelu"
TENSOR = "encoder.layers.11.self_attention.output_projection.LayerNorm.weight"


def test_the_table_of_a_check(small):
    sides = [Side(name=name, implementation=oracle.impl) for name in (LONG, f"{LONG}2")]
    found = check(tuple(sides), cnn_problem(small, initial_weights(0)), Settings(), steps=2)
    longest = [replace(rung, difference=1.234e-5, allowed=1e-9) for rung in found.rungs]
    renamed = [replace(rung, place=Stage(stage=rung.place.stage, tensor=TENSOR)) for rung in longest]
    table = list(stage_table(replace(found, rungs=(*longest, *renamed)), (LONG, f"{LONG}2")))
    head = next(number for number, line in enumerate(table) if line.startswith("stage "))
    assert any(TENSOR in line for line in table)
    assert any(LONG in line for line in table[head:])
    # A name that is wider than the table by itself has a line to itself, and is not cut.
    assert max(len(line) for line in table[head:] if TENSOR not in line) <= WIDTH
    assert all(line.endswith(TENSOR) for line in table[head:] if TENSOR in line)


def test_the_columns_of_a_run():
    lines = [
        run_header((LONG, f"{LONG}2")),
        window_line(Window(epoch=1234, step=1_234_567, losses=(1e30, 2.0), largest_gap=float("inf"))),
        epoch_line(EpochResult(epoch=123_456, accuracies=(1.0, 1.0), accuracies_per_class=(), agreement=1.0)),
    ]
    assert max(map(len, lines)) <= WIDTH
    assert run_header((LONG, f"{LONG}2")).split()[:2] == ["...th_the_tanh_gelu", "...h_the_tanh_gelu2"]


@pytest.mark.parametrize("right", [True, False])
def test_the_table_of_a_drill(right):
    faults = [fault for group in (CATALOGUE, OUTSIDE, BENIGN) for fault in group]
    names = tuple(fault.key for fault in faults[:6])
    for fault in faults:
        place = f"tie probe, activations, {TENSOR}"
        given = {"key": fault.key, "title": fault.title, "group": "catalogue", "side": "both", "expected": place}
        result = Drilled(**given, line=100 * "word ", found=True, stage_right=right, at=place, step=5, names=names)
        lines = list(result_lines(replace(result, named=right)))
        # The longest tensor is one word, and stands alone.
        assert all(len(line) <= WIDTH or line.strip() == TENSOR for line in lines)
        assert fault.key in lines[0].split()
    assert len(header()) <= WIDTH
