"""Traces: what one side's training computed, kept in a folder, and compared where no framework is installed.

A trace holds the loss of every step, and the state after recorded steps:

- full parameters and momentum after the first four steps, then once per doubling of the step count, and at the end;
- of every recorded state, per tensor, the norms of parameters and momentum, and 64 numbers that the parameters are
  projected to.

By default the state after every step is recorded; `every` thins that. One step of the tutorial's CNN costs 2,104 bytes:
480 projected numbers of 4 bytes (tensors of at most 64 elements are kept as they are), 20 norms of 8, and 8 each for
the loss, a hash of the batch, and the step's number. 37,500 steps are 79 MB; in float64, 18 full states of 1 MB each
come on top.

Projections are worked out in float64, where two honest sides differ by 1e-15, so float32 could not hold them: its 6e-8
would hide a difference of 1e-9. What is stored in float32 is how far each projection has moved since what the trace
already holds of the last one (differential coding with the error fed back, so that errors never add up). The error of
each number is 2**-24 of its move. A step moves parameters by a thousandth of themselves, rarely by a few hundredths, so
that 6e-11 of the tensor is lost, rarely 3e-9; the reader knows the moves, hence the error, and allows for it. With
`every` above 1 moves are longer, and there is room: they are kept in float64.

The momentum has no projection of its own at most steps: the
difference of its norms, held in float64, is a lower bound on its distance, and the parameters' move is lr times it.

    projection.py   64 numbers that tell how far two tensors are apart
    schedule.py     after which steps the state is recorded, and kept in full
    manifest.py     what is known of a trace beside its numbers
    chunk.py        the numbers of consecutive steps as one file
    writer.py       files that are each complete or absent
    reader.py       reads a trace, and refuses what is not whole
    record.py       trains one side and writes
    gradients.py    parameters and gradients of the first steps
    stages.py       all else that a step shows
    batches.py      which images each step was to see
    distances.py    how far two traces are apart at each step
    steps.py        what a trace tells of consecutive steps
    cause.py        why two traces differ, or what they lack for a cause
    same_run.py     refuses traces of different runs
    compare.py      whether that is noise, and where it stops to be
"""

from parity.trace.cause import training_data
from parity.trace.compare import Break, TraceComparison, TraceOutcome, compare_traces
from parity.trace.gradients import MANIFEST, read_gradients
from parity.trace.manifest import FORMAT, Manifest
from parity.trace.reader import Trace, read_trace
from parity.trace.record import Recording, record
from parity.trace.writer import check_folder

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Break",
    "Manifest",
    "Recording",
    "Trace",
    "TraceComparison",
    "TraceOutcome",
    "check_folder",
    "compare_traces",
    "read_gradients",
    "read_trace",
    "record",
    "training_data",
]
