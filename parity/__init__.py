"""Do two training programs compute the same thing, and if not, where do they part?

The public names are imported when they are first used, so that `import parity` stays fast and needs no framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.contract import SGD, Implementation, InputError, ParityError, initial_weights
    from parity.data import Dataset, Loader, load_data, load_weights, save_weights
    from parity.run import resolve_sides, run_sides
    from parity.running.lockstep import train
    from parity.settings import Settings

__all__ = [
    "SGD",
    "Dataset",
    "Implementation",
    "InputError",
    "Loader",
    "ParityError",
    "Settings",
    "initial_weights",
    "load_data",
    "load_weights",
    "resolve_sides",
    "run_sides",
    "save_weights",
    "train",
]

_ROOMS = (
    "parity.contract",
    "parity.data",
    "parity.settings",
    "parity.running.lockstep",
    "parity.run",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in map(import_module, _ROOMS):
            if hasattr(room, name):
                return getattr(room, name)
    raise AttributeError(f"module 'parity' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
