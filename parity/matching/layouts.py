"""In which ways the numbers of one tensor can lie in another of the same size.

Three kinds are tried, each as reshape, transpose, reshape:

    axes permuted       OIHW -> HWIO, (out, in) -> (in, out)
    axes divided        (3E, E) -> (E, 3, H, D), or merged, the other way round
    blocks reordered    an axis that runs over flattened feature maps, (C, H, W) -> (H, W, C)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

__all__ = ["Layout", "layouts"]

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Reshape to `split`, transpose to `axes`, reshape to the target's shape.

    Args:
        split: the source's shape, divided.
        axes: the transpose.
        reversed_axes: the axes are not in the source's order: a transposed matrix, another convention for kernels. None
            for vectors.
        disorder: how far the rest is from any convention: pairs of pieces of one axis that change places, for example.
        block: the block that was reordered, if any.
        pieces: the lengths into which axes are divided, in the order of the side that has them in one.
    """

    split: Shape
    axes: Shape
    reversed_axes: bool | None
    disorder: int
    block: Shape | None = None
    pieces: tuple[Shape, ...] = ()


def layouts(source: Shape, target: Shape, blocks: Iterable[tuple[Shape, Shape]] = ()) -> tuple[Layout, ...]:
    """Every way to lay a tensor of shape `source` out as one of shape `target`, the plainest first.

    Args:
        source: A's shape.
        target: B's shape.
        blocks: pairs (block in A's order, the same block in B's order) of flattened feature maps.
    """
    if math.prod(source) != math.prod(target):
        return ()
    a, b = _long(source), _long(target)
    found = list(_permuted(a, b))
    if len(a) < len(b):
        found += _divided(a, b)
    if len(a) > len(b):
        found += [_inverse(layout, a) for layout in _divided(b, a)]
    if len(a) == len(b):
        found += _reordered(a, b, blocks)
    unique = {(layout.split, layout.axes): layout for layout in found}
    return tuple(sorted(unique.values(), key=lambda layout: (layout.block is not None, layout.disorder)))


def _long(shape: Shape) -> Shape:
    """Without the axes of length 1, which move for free."""
    return tuple(length for length in shape if length != 1)


def _permuted(a: Shape, b: Shape) -> Iterator[Layout]:
    if sorted(a) != sorted(b):
        return
    for axes in itertools.permutations(range(len(a))):
        if tuple(a[axis] for axis in axes) == b:
            identity = tuple(range(len(a)))
            flag = None if len(a) < 2 else axes != identity
            yield Layout(split=a, axes=axes, reversed_axes=flag, disorder=int(axes not in _conventions(len(a))))


def _divided(a: Shape, b: Shape) -> Iterator[Layout]:
    """Each of B's axes is a piece of one of A's, in any order within it."""
    for owners in itertools.product(range(len(a)), repeat=len(b)):
        pieces = [[axis for axis in range(len(b)) if owners[axis] == owner] for owner in range(len(a))]
        if any(math.prod(b[axis] for axis in group) != length for group, length in zip(pieces, a, strict=True)):
            continue
        for orders in itertools.product(*(itertools.permutations(group) for group in pieces)):
            order = [axis for group in orders for axis in group]
            split = tuple(b[axis] for axis in order)
            axes = tuple(order.index(axis) for axis in range(len(b)))
            divided = tuple(tuple(b[axis] for axis in group) for group in orders if len(group) > 1)
            yield replace(_layout(split, axes, owners=tuple(owners[axis] for axis in order)), pieces=divided)


def _reordered(a: Shape, b: Shape, blocks: Iterable[tuple[Shape, Shape]]) -> Iterator[Layout]:
    """One axis runs over a block that B flattens in another order."""
    for base, (block, other), axis in itertools.product(_permuted(a, b), blocks, range(len(a))):
        if math.prod(block) != a[axis]:
            continue
        for order in itertools.permutations(range(len(block))):
            if tuple(block[i] for i in order) == other and order != tuple(range(len(block))):
                yield _with_block(a, base, axis, block, order)


def _with_block(a: Shape, base: Layout, axis: int, block: Shape, order: Shape) -> Layout:
    split = (*a[:axis], *block, *a[axis + 1 :])
    shift = len(block) - 1
    axes: list[int] = []
    for old in base.axes:
        axes += [axis + i for i in order] if old == axis else [old + shift if old > axis else old]
    disorder = base.disorder + _inversions(tuple(i for i in order if i > 0)) + (order[-1] != 0)
    return Layout(split=split, axes=tuple(axes), reversed_axes=base.reversed_axes, disorder=disorder, block=block)


def _conventions(length: int) -> tuple[Shape, ...]:
    """How kernels are transposed between torch (out, in, space) and JAX (space, in, out), and not at all."""
    space = tuple(range(2, length))
    return (*space, 1, 0)[-length:], (length - 1, length - 2, *range(length - 2)), tuple(range(length))


def _layout(split: Shape, axes: Shape, *, owners: Shape) -> Layout:
    """`owners` says from which of the source's axes each axis of `split` comes."""
    groups = [tuple(axis for axis in axes if owners[axis] == owner) for owner in sorted(set(owners))]
    firsts = [min(axes.index(axis) for axis in group) for group in groups]
    flag = None if len(groups) < 2 else firsts[0] > firsts[1]
    return Layout(split=split, axes=axes, reversed_axes=flag, disorder=sum(map(_inversions, groups)))


def _inverse(layout: Layout, a: Shape) -> Layout:
    """The layout that goes back; `a` is the shape that it used to lead to."""
    axes = tuple(sorted(range(len(a)), key=layout.axes.__getitem__))
    return replace(layout, split=a, axes=axes)


def _inversions(order: Shape) -> int:
    return sum(x > y for x, y in itertools.combinations(order, 2))
