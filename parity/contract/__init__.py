"""The leaf that everyone may import: what an implementation is given and must give back. NumPy only."""

from parity.contract.cnn import (
    CNN_ACTIVATIONS,
    CNN_PARAMETERS,
    NUM_CLASSES,
    Weights,
    check_images,
    check_weights,
    initial_weights,
)
from parity.contract.draws import Stream
from parity.contract.errors import InputError, NonFiniteLossError, ParityError, SideError
from parity.contract.implementation import (
    DTYPES,
    PRECISIONS,
    AnyImplementation,
    CompiledAhead,
    Contestant,
    Ensemble,
    Implementation,
    Metered,
    Scored,
    SelfContained,
    storage,
)
from parity.contract.nearest import nearest_file, nearest_name
from parity.contract.normalisation import normalisation_table
from parity.contract.schedule import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
    schedule_from,
)
from parity.contract.sgd import SGD
from parity.contract.step_trace import STAGES, StepTrace, Tensors

__all__ = [
    "CNN_ACTIVATIONS",
    "CNN_PARAMETERS",
    "DTYPES",
    "NUM_CLASSES",
    "PRECISIONS",
    "SGD",
    "STAGES",
    "AnyImplementation",
    "CompiledAhead",
    "Contestant",
    "CosineAnnealingLR",
    "Ensemble",
    "ExponentialLR",
    "Implementation",
    "InputError",
    "LinearLR",
    "Metered",
    "MultiStepLR",
    "NonFiniteLossError",
    "OneCycleLR",
    "ParityError",
    "PolynomialLR",
    "Schedule",
    "Scored",
    "SelfContained",
    "SequentialLR",
    "SideError",
    "StepLR",
    "StepTrace",
    "Stream",
    "Tensors",
    "Weights",
    "check_images",
    "check_weights",
    "initial_weights",
    "nearest_file",
    "nearest_name",
    "normalisation_table",
    "schedule_from",
    "storage",
]
