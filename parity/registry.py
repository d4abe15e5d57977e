"""From a string, `module[:attribute]`, to an Implementation, at run time: parity itself imports no framework."""

from __future__ import annotations

import importlib
import inspect

from parity.contract import AnyImplementation, Implementation, InputError

__all__ = ["DEFAULT_ATTRIBUTE", "resolve"]

DEFAULT_ATTRIBUTE = "impl"

_METHODS = sorted(name for name, _ in inspect.getmembers(Implementation, inspect.isfunction) if name[0] != "_")


def resolve(name: str) -> AnyImplementation:
    """Import the implementation of that name.

    Args:
        name: "module:attribute", or "module" for its attribute `impl`.

    Raises:
        InputError: the module does not import, has no such attribute, or the attribute lacks a method of
            `parity.contract.Implementation`; says which.
    """
    module_name, _, attribute = name.partition(":")
    attribute = attribute or DEFAULT_ATTRIBUTE
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's module may fail in any way while it is imported
        problem = f"module {module_name!r} does not import ({type(error).__name__}: {error})"
        raise _refusal(name, problem, "check the name, and that it is installed") from error
    if not hasattr(module, attribute):
        candidates = [key for key, value in sorted(vars(module).items()) if _is_implementation(value)]
        known = f"name one of: {', '.join(candidates)}" if candidates else "define one"
        raise _refusal(name, f"module {module_name!r} has no attribute {attribute!r}", known)
    found = getattr(module, attribute)
    if inspect.isclass(found):
        raise _refusal(name, f"{attribute!r} is a class", "name an instance of it")
    if missing := [method for method in _METHODS if not callable(getattr(found, method, None))]:
        problem = f"{attribute!r} has no method {missing[0]!r}"
        raise _refusal(name, problem, "see parity.contract.Implementation for what it must offer")
    implementation: AnyImplementation = found
    return implementation


def _is_implementation(value: object) -> bool:
    """A class has the methods too, but not an instance's."""
    return isinstance(value, Implementation) and not inspect.isclass(value)


def _refusal(name: str, problem: str, fix: str) -> InputError:
    return InputError("implementation", name, problem, fix)
