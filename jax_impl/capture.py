"""Every floating-point value that a forward pass computes from the model's inputs, read off its jaxpr.

The function is traced to a jaxpr, which is evaluated again equation by equation, with each value accompanied by the
recorded ones that it comes from. What only wraps a function (jit, remat, custom derivatives) is entered; loops and
branches stay one operation each, of which the results are recorded. All of it runs inside the caller's jit.

Source: https://docs.jax.dev/en/latest/notebooks/Writing_custom_interpreters_in_Jax.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun, jaxprs_in_params

from parity.contract.captured import CapturedGraph, union
from parity.contract.programs import other_precision

__all__ = ["Recorded", "check_precision", "order_of_use", "record"]

# These hold the values of what they are given, in another order or place, or some of them.
LAYOUT = frozenset(
    {
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "copy_p",
        "dynamic_slice",
        "expand_dims",
        "name",
        "optimization_barrier",
        "reshape",
        "rev",
        "slice",
        "split",
        "squeeze",
        "stop_gradient",
        "transpose",
    }
)

_DEPTH = 100  # calls between a user's line and an operation inside a library

# Primitive -> the parameter that holds the function which it calls once, with its own operands.
CALLS = {
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "remat2": "jaxpr",
}


@partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("names", "parents"))
@dataclass(frozen=True, eq=False)
class Recorded:
    """Activations in forward order, and the names of each one's parents; names stay through jit, as they are static."""

    values: tuple[Array, ...]
    names: tuple[str, ...]
    parents: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Traced:
    """A value and the activations that it comes from; None for one that does not depend on the model's inputs."""

    value: Any
    sources: tuple[str, ...] | None


def record(function: Callable[..., Any], inputs: Sequence[Array], *others: Any) -> Recorded:
    """The activations of function(inputs, *others), as far as its results depend on them.

    Args:
        function: from arrays to a pytree of arrays.
        inputs: the model's inputs; what depends on the others alone is not recorded.
        others: pytrees.
    """
    closed = jax.make_jaxpr(function)(inputs, *others)
    leaves = [Traced(value, ()) for value in jax.tree.leaves(inputs)]
    leaves += [Traced(value, None) for value in jax.tree.leaves(others)]
    walk = Walk()
    results = walk.evaluate(closed.jaxpr, closed.consts, leaves, "")
    names = walk.graph.leading_to(union(result.sources or () for result in results))
    return Recorded(
        values=tuple(walk.values[name] for name in names),
        names=tuple(names),
        parents=tuple(walk.graph.parents[name] for name in names),
    )


@dataclass
class Walk:
    """An evaluation of a jaxpr that keeps what it passes."""

    graph: CapturedGraph = field(default_factory=CapturedGraph)
    values: dict[str, Array] = field(default_factory=dict)

    def evaluate(self, jaxpr: Jaxpr, consts: Sequence[Any], operands: Sequence[Traced], path: str) -> list[Traced]:
        """The results of the jaxpr for these operands."""
        env = dict(zip(jaxpr.constvars, (Traced(value, None) for value in consts), strict=True))
        env |= dict(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Literal | Var) -> Traced:
            return Traced(atom.val, None) if isinstance(atom, Literal) else env[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            env |= dict(zip(equation.outvars, self._apply(jaxpr, equation, given, path), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, jaxpr: Jaxpr, equation: JaxprEqn, given: list[Traced], path: str) -> list[Traced]:
        where = _join(path, str(equation.source_info.name_stack))
        if (inner := _called(equation)) is not None:
            name = str(equation.params["name"]) if equation.primitive.name == "jit" else ""
            return self.evaluate(inner.jaxpr, inner.consts, given, _join(where, name))
        values = _compute(jaxpr, equation, [operand.value for operand in given])
        known = [operand.sources for operand in given if operand.sources is not None]
        if not known:
            return [Traced(value, None) for value in values]
        return self._record(equation, values, union(known), where)

    def _record(self, equation: JaxprEqn, values: Sequence[Any], parents: tuple[str, ...], path: str) -> list[Traced]:
        """Record an operation's activations; what is none passes its parents on."""
        computes = [equation.primitive.name not in LAYOUT and _is_activation(value) for value in values]
        operation = self.graph.operation(_join(path, equation.primitive.name)) if any(computes) else ""
        results = []
        for number, (value, new) in enumerate(zip(values, computes, strict=True)):
            name = self.graph.add(operation, number, parents) if new else None
            results.append(Traced(value, (name,) if name else parents))
            if name:
                self.values[name] = value
        return results


def check_precision(jaxpr: Jaxpr, dtype: str) -> None:
    """Refuse a program in which an operation on floats gives floats of another type than the run's.

    Integers and masks may become any floats, which hold them exactly.

    Raises:
        InputError: names the operation, and the line of the user's code that it comes from.
    """
    for equation in _equations(jaxpr):
        given, results = _float_types(equation.invars), _float_types(equation.outvars)
        moves = equation.primitive.name in LAYOUT and given == results
        if given and results - {dtype} and not moves:
            where = f"{equation.primitive.name} at {_source_lines(equation)}"
            raise other_precision(where, min(results - {dtype}), dtype)


def _source_lines(equation: JaxprEqn) -> str:
    """Where an operation comes from; if that is in an installed package, then also the user's line that led to it."""
    calls = source_info_util.summarize(equation.source_info, num_frames=_DEPTH).splitlines()
    own = [call for call in calls if "site-packages" not in call]
    return calls[-1] if not own or own[-1] == calls[-1] else f"{calls[-1]}, from {own[-1]}"


def order_of_use(jaxpr: Jaxpr, names: Mapping[Var, str]) -> Iterator[str]:
    """The names of the variables in the order in which the jaxpr reads them, repetitions included."""
    for equation in jaxpr.eqns:
        variables = {number: atom for number, atom in enumerate(equation.invars) if not isinstance(atom, Literal)}
        read = {number: names[variable] for number, variable in variables.items() if variable in names}
        if (inner := _called(equation)) is not None:
            yield from order_of_use(inner.jaxpr, {inner.jaxpr.invars[number]: name for number, name in read.items()})
        else:
            yield from read.values()


def _equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All equations, innermost first, so that the first refused is not a call of what should be named."""
    for equation in jaxpr.eqns:
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)
        yield equation


def _called(equation: JaxprEqn) -> ClosedJaxpr | None:
    parameter = CALLS.get(equation.primitive.name)
    if parameter is None:
        return None
    inner = equation.params[parameter]
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def _compute(jaxpr: Jaxpr, equation: JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
    """The results of one equation, by JAX's own evaluation of a jaxpr that holds nothing else."""
    arguments = {v: value for v, value in zip(equation.invars, values, strict=True) if not isinstance(v, Literal)}
    single = jaxpr.replace(  # type: ignore[no-untyped-call]  # JAX has not annotated it
        constvars=[],
        invars=list(arguments),
        outvars=list(equation.outvars),
        eqns=[equation],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    results: Sequence[Any] = jaxpr_as_fun(ClosedJaxpr(single, ()))(*arguments.values())
    return results


def _float_types(atoms: Sequence[Any]) -> set[str]:
    """The floating-point types among variables; a literal is a constant that is being created."""
    avals = [atom.aval for atom in atoms if not isinstance(atom, Literal)]
    return {str(aval.dtype) for aval in avals if _is_float(aval)}


def _is_float(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.floating)


def _is_activation(value: Any) -> bool:
    return _is_float(value) and value.size > 1


def _join(*parts: str) -> str:
    return "/".join(filter(None, parts))
