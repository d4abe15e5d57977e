"""Sides with a fault, to be named by strings: `tests.bench.sides:other_lr`."""

import torch_impl
from tests.test_planted_faults import Wrapped, with_sgd

other_lr = Wrapped(torch_impl.eager, **with_sgd(lr=0.002))
nearly = Wrapped(torch_impl.eager, **with_sgd(lr=0.001 * (1 + 1e-8)))
bgr = Wrapped(torch_impl.eager, images=lambda images: images[..., ::-1])
