"""Sides with a fault, to be named by strings: `tests.measurements.sides:other_lr`."""

import dataclasses

import torch_impl
from parity.drill.catalogue.data import reversed_channels
from parity.drill.feeding import Replaced
from parity.drill.updating import Configured


def with_lr(lr):
    return Configured(torch_impl.eager, lambda sgd: dataclasses.replace(sgd, lr=lr))


other_lr = with_lr(0.002)
nearly = with_lr(0.001 * (1 + 1e-8))
bgr = Replaced(torch_impl.eager, reversed_channels)
