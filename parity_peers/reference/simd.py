"""Vectors of 16 numbers in Numba: what its own vectoriser cannot be made to do, written as LLVM's vector instructions.

A `Tile` is a tuple of vectors that stays in registers: every function here takes tuples of any length and is unrolled
over them while it is compiled. 16 float32 fill one AVX-512 register; with narrower registers, or in float64, LLVM
splits a vector into several. An index counts an array's elements in memory order, whatever its shape; nothing is
checked.

Source: https://numba.readthedocs.io/en/stable/extending/low-level.html, https://llvm.org/docs/LangRef.html#vector-type
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import default_manager, models, register_default
from numba.extending import intrinsic

__all__ = [
    "LANES",
    "axpy",
    "fma",
    "load",
    "load_tile",
    "outer",
    "pool",
    "positive",
    "repeat",
    "splats",
    "store",
    "store_sums",
    "zero",
]

LANES = 16

# Numba has no types: what its compiler hands over and takes is Any.
Codegen = tuple[Any, Callable[..., Any]]


def vectorised(function: Callable[..., Codegen]) -> Any:
    """What Numba compiles a call of `function` to; literals in the call are known while it is compiled."""
    return intrinsic(prefer_literal=True)(function)


class Vector(types.Type):  # type: ignore[misc]  # Numba has no types
    """16 numbers of a Numba scalar type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_default(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]  # Numba has no types
    """As LLVM holds it."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(manager.lookup(vector.dtype).get_value_type(), LANES))


def _element(builder: Any, context: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of an element."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _read(builder: Any, context: Any, array_type: Any, array: Any, index: Any, offset: int = 0) -> Any:
    """A vector of consecutive elements."""
    vector = default_manager.lookup(Vector(array_type.dtype)).get_value_type()
    address = _element(builder, context, array_type, array, builder.add(index, index.type(offset)))
    return builder.load(builder.bitcast(address, vector.as_pointer()), align=_size(array_type))


def _write(builder: Any, context: Any, array_type: Any, array: Any, index: Any, vector: Any) -> None:
    address = _element(builder, context, array_type, array, index)
    builder.store(vector, builder.bitcast(address, vector.type.as_pointer()), align=_size(array_type))


def _size(array_type: Any) -> int:
    """The bytes of an element: all that is known of where a vector lies."""
    size: int = array_type.dtype.bitwidth // 8
    return size


def _splat(builder: Any, scalar: Any) -> Any:
    """A vector of 16 times the same number."""
    kind = ir.VectorType(scalar.type, LANES)
    one = builder.insert_element(kind(ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(one, kind(ir.Undefined), ir.VectorType(ir.IntType(32), LANES)([0] * LANES))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """A vector a b + c, in one instruction where the processor has it."""
    suffix = "f32" if a.type.element == ir.FloatType() else "f64"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}{suffix}")
    return builder.call(function, [a, b, c])


def _tuple(context: Any, builder: Any, kind: Any, values: Sequence[Any]) -> Any:
    return context.make_tuple(builder, kind, values)


def _tile(dtype: Any, length: int) -> Any:
    return types.UniTuple(Vector(dtype), length)


@vectorised
def load(_typing: Any, array: Any, index: Any) -> Codegen:  # noqa: ARG001  Numba gives the arguments' types by name
    """array[index : index + 16]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _read(builder, context, signature.args[0], *args)

    return Vector(array.dtype)(array, types.intp), codegen


@vectorised
def load_tile(_typing: Any, array: Any, index: Any, stride: Any, length: Any) -> Codegen:  # noqa: ARG001
    """array[index + i stride : index + i stride + 16] for i below `length`, a literal."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, stride, _ = args
        vectors = []
        for _ in range(length.literal_value):
            vectors.append(_read(builder, context, signature.args[0], array, index))
            index = builder.add(index, stride)
        return _tuple(context, builder, signature.return_type, vectors)

    return _tile(array.dtype, length.literal_value)(array, types.intp, types.intp, length), codegen


@vectorised
def zero(_typing: Any, array: Any) -> Codegen:
    """Zeros of the array's dtype."""

    def codegen(context: Any, _builder: Any, signature: Any, _args: Any) -> Any:
        return context.get_constant_null(signature.return_type)

    return Vector(array.dtype)(array), codegen


@vectorised
def store(_typing: Any, array: Any, index: Any, stride: Any, tile: Any) -> Codegen:  # noqa: ARG001
    """array[index + i stride : index + i stride + 16] = tile[i]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, stride, tile = args
        for vector in cgutils.unpack_tuple(builder, tile):
            _write(builder, context, signature.args[0], array, index, vector)
            index = builder.add(index, stride)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), codegen


@vectorised
def repeat(_typing: Any, vector: Any, times: Any) -> Codegen:
    """The tile of `times` (a literal) times the vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _tuple(context, builder, signature.return_type, [args[0]] * times.literal_value)

    return _tile(vector.dtype, times.literal_value)(vector, times), codegen


@vectorised
def splats(_typing: Any, array: Any, index: Any, length: Any, times: Any) -> Codegen:  # noqa: ARG001
    """The tile of array[index + i], i below `length`, each in all lanes and `times` times; both are literals."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = []
        for number in range(length.literal_value):
            position = builder.add(args[1], args[1].type(number))
            scalar = builder.load(_element(builder, context, signature.args[0], args[0], position))
            vectors += [_splat(builder, scalar)] * times.literal_value
        return _tuple(context, builder, signature.return_type, vectors)

    kind = _tile(array.dtype, length.literal_value * times.literal_value)
    return kind(array, types.intp, length, times), codegen


@vectorised
def fma(_typing: Any, tile: Any, vectors: Any, array: Any, index: Any, stride: Any) -> Codegen:  # noqa: ARG001
    """tile[i n + j] + array[index + i stride] vectors[j], where n vectors are given."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, vectors = (cgutils.unpack_tuple(builder, value) for value in args[:2])
        array, index, stride = args[2:]
        found = []
        for first in range(0, len(sums), len(vectors)):
            factor = _splat(builder, builder.load(_element(builder, context, signature.args[2], array, index)))
            found += [_fma(builder, factor, vectors[j], sums[first + j]) for j in range(len(vectors))]
            index = builder.add(index, stride)
        return _tuple(context, builder, signature.return_type, found)

    return tile(tile, vectors, array, types.intp, types.intp), codegen


@vectorised
def axpy(_typing: Any, tile: Any, scalar: Any, other: Any) -> Codegen:  # noqa: ARG001
    """tile[i] + scalar other[i]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, others = (cgutils.unpack_tuple(builder, args[i]) for i in (0, 2))
        factor = _splat(builder, args[1])
        found = [_fma(builder, factor, vector, total) for vector, total in zip(others, sums, strict=True)]
        return _tuple(context, builder, signature.return_type, found)

    return tile(tile, tile.dtype.dtype, other), codegen


@vectorised
def outer(_typing: Any, tile: Any, rows: Any, columns: Any) -> Codegen:
    """tile[i n + j] + rows[i] columns[j], lane by lane, for n columns."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, rows, columns = (cgutils.unpack_tuple(builder, value) for value in args)
        pairs = [(row, column) for row in rows for column in columns]
        found = [_fma(builder, row, column, total) for (row, column), total in zip(pairs, sums, strict=True)]
        return _tuple(context, builder, signature.return_type, found)

    return tile(tile, rows, columns), codegen


@vectorised
def store_sums(_typing: Any, array: Any, index: Any, stride: Any, tile: Any) -> Codegen:  # noqa: ARG001
    """array[index + i stride + j] += the sum of tile[i n + j]'s lanes, for a tile of n by n."""
    width = math.isqrt(tile.count)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, stride, tile = args
        for number, vector in enumerate(cgutils.unpack_tuple(builder, tile)):
            row, column = divmod(number, width)
            position = builder.add(builder.add(index, builder.mul(stride, stride.type(row))), index.type(column))
            address = _element(builder, context, signature.args[0], array, position)
            builder.store(builder.fadd(builder.load(address), _sum(builder, vector)), address)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), codegen


def _sum(builder: Any, vector: Any) -> Any:
    """Of the lanes, by halves."""
    size = LANES
    while size > 1:
        size //= 2
        parts = [ir.VectorType(ir.IntType(32), size)([*range(start, start + size)]) for start in (0, size)]
        low, high = (builder.shuffle_vector(vector, vector.type(ir.Undefined), part) for part in parts)
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.IntType(32)(0))


@vectorised
def pool(_typing: Any, upper: Any, lower: Any, right: Any, below: Any) -> Codegen:  # noqa: ARG001
    """ReLU of the largest of each 2x2 window, and where it lies: 0, `right`, `below` or `below` + `right`.

    Window i is upper[2i], upper[2i+1] over lower[2i], lower[2i+1]. Of several maxima the first is taken, in that order.
    A NaN stays one, as in torch.
    """
    windows = upper.count // 2

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above, beneath = (cgutils.unpack_tuple(builder, value) for value in args[:2])
        right, below = args[2:]
        places = [_splat(builder, place) for place in (right, below, builder.add(below, right))]
        pooled, winners = [], []
        for first in range(0, 2 * windows, 2):
            best, place = above[first], places[0].type(None)
            for value, there in zip([above[first + 1], *beneath[first : first + 2]], places, strict=True):
                larger = builder.and_(builder.fcmp_unordered(">", value, best), builder.fcmp_ordered("==", best, best))
                best, place = builder.select(larger, value, best), builder.select(larger, there, place)
            zero = best.type(None)
            pooled.append(builder.select(builder.fcmp_ordered("<=", best, zero), zero, best))
            winners.append(place)
        kinds = signature.return_type.types
        tiles = [_tuple(context, builder, kind, tile) for kind, tile in zip(kinds, (pooled, winners), strict=True)]
        return _tuple(context, builder, signature.return_type, tiles)

    dtype = upper.dtype.dtype
    result = types.Tuple((_tile(dtype, windows), _tile(types.int16, windows)))
    return result(upper, lower, types.int16, types.int16), codegen


@vectorised
def positive(_typing: Any, vector: Any, output: Any) -> Codegen:
    """The vector where the output of a ReLU is positive, else 0."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        vector, output = args
        return builder.select(builder.fcmp_unordered(">", output, output.type(None)), vector, vector.type(None))

    return vector(vector, output), codegen
