"""The default trace of the tutorial, 37,500 steps in float64, stays below 100 MB."""

from __future__ import annotations

import json

import numpy as np

import torch_impl
from parity.contract import CNN_PARAMETERS
from parity.settings import Settings, Side
from parity.trace import record
from parity.trace.chunk import Chunk, State
from parity.trace.manifest import MANIFEST
from parity.trace.projection import Projector
from parity.trace.schedule import Schedule
from parity.trace.writer import CHUNK
from tests.trace.fakes import Wide

TENSORS = len(CNN_PARAMETERS)
WIDTH = Projector(CNN_PARAMETERS).width


def chunk_size(schedule, first, stop):
    """Bytes of the chunk of steps `first` to `stop`: they depend on its arrays' shapes alone."""
    counts = np.arange(first + 1, stop + 1)
    zeros = {name: np.zeros(shape) for name, shape in CNN_PARAMETERS.items()}
    chunk = Chunk(
        losses=np.zeros(len(counts)),
        batches=np.zeros(len(counts), np.uint64),
        counts=counts,
        norms=np.zeros((len(counts), TENSORS)),
        momentum_norms=np.zeros((len(counts), TENSORS)),
        base=np.zeros(WIDTH),
        moves=np.zeros((len(counts), WIDTH), np.float32),
        full={count: State(weights=zeros, momentum=zeros) for count in counts.tolist() if schedule.is_full(count)},
    )
    return len(chunk.to_bytes())


def sizes(limit):
    schedule = Schedule(limit=limit)
    return [chunk_size(schedule, first, min(first + CHUNK, limit)) for first in range(0, limit, CHUNK)]


def test_the_default_trace_of_the_tutorial_stays_below_100_mb(small, tmp_path):
    # What a real recording writes is what `sizes` computes, so the computation below is about real traces.
    side = Side(name="torch_impl", implementation=torch_impl.eager)
    recording = record(side, small, Settings(steps=260, epochs=20, dtype="float64"), tmp_path / "trace")
    files = [(tmp_path / "trace" / chunk.file).stat().st_size for chunk in recording.manifest.chunks]
    assert files == sizes(260)
    assert recording.bytes == sum(files)

    entry = len(json.dumps(json.loads((tmp_path / "trace" / MANIFEST).read_text())["chunks"][0], indent=1)) + 20
    manifest = (tmp_path / "trace" / MANIFEST).stat().st_size
    tutorial = sizes(37_500)
    assert 95e6 < sum(tutorial) + manifest + entry * len(tutorial) < 100e6


def test_no_wider_distance_takes_more(small, tmp_path):
    """From 2 on, moves take 8 bytes instead of 4, of half as many states."""
    side, chosen = Side(name="wide", implementation=Wide()), Settings(steps=500, epochs=50, dtype="float64")
    one, two = (record(side, small, chosen, tmp_path / str(every), every=every).bytes for every in (1, 2))
    assert two < one


def test_each_further_step_costs_2104_bytes():
    schedule = Schedule(limit=10**6)
    # 1920 of projections, 160 of norms, 8 each of the loss, the hash and the step. The headers write sizes in digits,
    # and may differ by a few bytes for all 100 steps.
    assert 0 <= chunk_size(schedule, 300, 500) - chunk_size(schedule, 300, 400) - 100 * 2104 < 100
