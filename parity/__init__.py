"""Do two training programs compute the same thing, and if not, where do they part?

The public names are imported when they are first used, so that `import parity` stays fast and needs no framework.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "SGD": "parity.contract",
    "Implementation": "parity.contract",
    "InputError": "parity.contract",
    "ParityError": "parity.contract",
    "initial_weights": "parity.contract",
    "Dataset": "parity.data",
    "Loader": "parity.data",
    "load_data": "parity.data",
    "load_weights": "parity.data",
    "save_weights": "parity.data",
    "Settings": "parity.lockstep",
    "train": "parity.lockstep",
    "resolve_sides": "parity.run",
    "run_sides": "parity.run",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'parity' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
