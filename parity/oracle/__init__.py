"""The oracle: the CNN and SGD once more, in float64 NumPy, with gradients derived by hand and no framework.

Where two sides differ, the one further from the oracle is the one that is off. Name it `parity.oracle`, as a side like
any other. Start reading at layers.py (each layer and its gradient), model.py (the chain rule) and sgd.py.
"""

from parity.oracle.implementation import Oracle
from parity.oracle.model import Operations

__all__ = ["Operations", "Oracle", "impl"]

impl = Oracle()
