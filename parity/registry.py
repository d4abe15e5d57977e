"""From a string, `module[:attribute]`, to an Implementation, at run time: parity itself imports no framework."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import Any

from parity.contract import AnyImplementation, Contestant, Implementation, InputError, nearest_name

__all__ = [
    "DEFAULT_ATTRIBUTE",
    "OURS",
    "load",
    "modules_in",
    "require_methods",
    "resolve",
    "resolve_contestant",
]

DEFAULT_ATTRIBUTE = "impl"


def _methods(protocol: type) -> tuple[str, ...]:
    return tuple(sorted(name for name, _ in inspect.getmembers(protocol, inspect.isfunction) if name[0] != "_"))


def resolve(name: str) -> AnyImplementation:
    """Import the implementation of that name.

    Args:
        name: "module:attribute", or "module" for its attribute `impl`.

    Raises:
        InputError: the module does not import, has no such attribute, or the attribute lacks a method of
            `parity.contract.Implementation`; says which.
    """
    found, attribute = load(name)
    return require_methods(found, name=name, attribute=attribute)


def resolve_contestant(name: str) -> Contestant[Any, Any]:
    """The same for what `parity bench` times, which needs fewer methods: see `parity.contract.Contestant`."""
    found, attribute = load(name)
    contestant: Contestant[Any, Any] = _require(found, Contestant, name=name, attribute=attribute)
    return contestant


def load(name: str) -> tuple[Any, str]:
    """The object of that name, whatever it is, and its attribute's name.

    Raises:
        InputError: the module does not import, or has no such attribute.
    """
    module_name, _, attribute = name.partition(":")
    attribute = attribute or DEFAULT_ATTRIBUTE
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's module may fail in any way while it is imported
        problem = f"module {module_name!r} does not import ({type(error).__name__}: {error})"
        raise _refusal(name, problem, _import_fix(module_name, name, error)) from error
    if not hasattr(module, attribute):
        candidates = [key for key, value in sorted(vars(module).items()) if _is_implementation(value)]
        known = f"name one of: {', '.join(candidates)}" if candidates else "define one"
        fix = nearest_name(attribute, candidates, known)
        raise _refusal(name, f"module {module_name!r} has no attribute {attribute!r}", fix)
    return getattr(module, attribute), attribute


def _import_fix(module_name: str, name: str, error: BaseException) -> str:
    """The nearest module, where it is this one that was not found, and not one that it imports.

    Only the part of the name that was not found is compared, and only what is there is named.
    """
    otherwise = "check the name, and that it is installed"
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{module_name}.".startswith(f"{missing}."):
        return otherwise
    package = missing.rpartition(".")[0]
    rest = module_name[len(missing) :]
    beside = [module for module in modules_in(package) if is_module(f"{module}{rest}")]
    ours = () if package or rest else OURS
    meant = nearest_name(missing, [*ours, *beside], "", alone=True)
    if not meant:
        return otherwise
    whole = meant.removeprefix("did you mean ").removesuffix("?") + name[len(missing) :]
    return f"{otherwise}; did you mean {whole}?"


OURS = ("torch_impl", "jax_impl", "parity.oracle")
"""The implementations that come with this package."""


def modules_in(package: str) -> tuple[str, ...]:
    """The modules of a package, by their whole names; "" for those of the working directory. None is imported."""
    loaded = sys.modules.get(package)
    places = list(getattr(loaded, "__path__", ())) if loaded else [str(Path(*package.split(".")))]
    prefix = f"{package}." if package else ""
    return tuple(f"{prefix}{found.name}" for found in pkgutil.iter_modules(places))


def is_module(name: str) -> bool:
    """Whether there is such a module, a file or a package. None is imported."""
    package, _, last = name.rpartition(".")
    return name in modules_in(package) if last else False


def require_methods(found: Any, *, name: str, attribute: str) -> AnyImplementation:
    """The object, if it has the methods of an implementation.

    Args:
        found: what should be one.
        name: by which the user knows it, for the error.
        attribute: likewise, without the module.

    Raises:
        InputError: it is a class, or lacks a method; says which.
    """
    implementation: AnyImplementation = _require(found, Implementation, name=name, attribute=attribute)
    return implementation


def _require(found: Any, protocol: type, *, name: str, attribute: str) -> Any:
    if inspect.isclass(found):
        raise _refusal(name, f"{attribute!r} is a class", "name an instance of it")
    if missing := [method for method in _methods(protocol) if not callable(getattr(found, method, None))]:
        problem = f"{attribute!r} has no method {missing[0]!r}"
        raise _refusal(name, problem, f"see parity.contract.{protocol.__name__} for what it must offer")
    return found


def _is_implementation(value: object) -> bool:
    """A class has the methods too, but not an instance's."""
    return isinstance(value, Implementation) and not inspect.isclass(value)


def _refusal(name: str, problem: str, fix: str) -> InputError:
    return InputError("implementation", name, problem, fix)
