"""The leaf that everyone may import: what an implementation is given and must give back. NumPy only."""

from parity.contract.cnn import CNN_PARAMETERS, NUM_CLASSES, Weights, check_weights, initial_weights
from parity.contract.draws import Stream
from parity.contract.errors import InputError, ParityError, SideError
from parity.contract.implementation import DTYPES, AnyImplementation, Implementation
from parity.contract.normalisation import normalisation_table
from parity.contract.sgd import SGD

__all__ = [
    "CNN_PARAMETERS",
    "DTYPES",
    "NUM_CLASSES",
    "SGD",
    "AnyImplementation",
    "Implementation",
    "InputError",
    "ParityError",
    "SideError",
    "Stream",
    "Weights",
    "check_weights",
    "initial_weights",
    "normalisation_table",
]
