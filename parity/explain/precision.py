"""In which format a side computes that is less exact than float32: which of its products, and what of them is rounded.

Each layer is a sum of products of what was recorded before it and of its weights. So its own error is known, whatever
the layers before it did, and can be made again: the same sum in float64, with inputs, weights or results rounded to a
format's significant bits, to nearest or cut off. A format that predicts every layer that is off, but for the rounding
of a sum in float32, is the cause. Where none does, products may be computed in another way (Winograd's, or by Fourier
transforms); then errors as large as those that a format makes are said to be so, and no more.

    TF32 or float16   11 significant bits     results in float32, or in float16
    bfloat16           8
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.compare import Finding
from parity.contract import StepTrace
from parity.explain.cause import Cause, Explanation
from parity.explain.fit import Deviation, Fit, far, settle
from parity.explain.losses import HONEST
from parity.explain.network import NODES, inputs_of, output_of
from parity.explain.relayout import format_key, round_to
from parity.oracle.layers import Array

__all__ = ["explain_precision"]

Rounding = Callable[[Array], Array]

FORMATS = (("bfloat16-compute", "bfloat16", 8), ("tf32", "TF32 or float16", 11))

EPS = float(np.finfo(np.float32).eps)

SUMMED = 2.5 * EPS
"""What is left of a sum of n terms in float32, over sqrt(n), when its factors are rounded as the side rounds them: five
times what random roundings add up to. The factors of another format leave 2^-11 at least: 80 times as much."""

OFF = 64 * EPS
"""A layer that errs by more does not compute in float32: its longest sum has 400 terms, and errs by 10 eps."""

ALIKE = 1.25
"""Norms of two draws of one format's errors may differ by so much: by 5 % in a layer of hundreds of roundings, and by
30 % in the last one, which has few. Formats are 8 times apart, cutting off 2.5 times from rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Product:
    """A layer, or a gradient, as it was computed: y = f(x, w, b).

    Args:
        name: of its output.
        x: what it reads.
        weights: what x is multiplied with.
        bias: what is added; 0 for none.
        terms: of each sum.
        make: f.
        found: y, as it was recorded.
    """

    name: str
    x: Array
    weights: Array
    bias: Array
    terms: int
    make: Callable[[Array, Array, Array], Array]
    found: Array

    @property
    def exact(self) -> Array:
        """Without rounding."""
        return self.make(self.x, self.weights, self.bias)

    @property
    def summed(self) -> float:
        """What float32's sums leave."""
        return SUMMED * math.sqrt(self.terms)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """What is rounded of a product, in words, and as a noun for the key where it is not the product itself."""

    sentence: str
    noun: str = ""
    inputs: bool = False
    weights: bool = False
    result: bool = False


WAYS = (
    _Way(sentence="computes products in {}", inputs=True, weights=True),
    _Way(sentence="computes products in {}, and keeps their results in it", inputs=True, weights=True, result=True),
    _Way(sentence="reads weights in {}", noun="weights", weights=True),
    _Way(sentence="reads the inputs of layers in {}", noun="inputs", inputs=True),
    _Way(sentence="keeps the outputs of layers in {}", noun="outputs", result=True),
)


def explain_precision(finding: Finding, trace: StepTrace | None) -> Explanation:
    """A side that computes with fewer bits than float32: those of a known format, if that predicts what it computed.

    Args:
        finding: of the precision.
        trace: a float32 step of the CNN on that side; None where its formulas are not known.
    """
    deviation = Deviation(
        side=finding.off[0], step=finding.step or 0, place=finding.place, difference=finding.difference
    )
    off = (_off(_layers(trace)) or _off(_first_gradient(trace))) if trace else []
    where = _where(off)
    settled = settle(replace(deviation, allowed=1.0), list(_fits(off, where))) if off else None
    if isinstance(settled, Cause):
        return Explanation(causes=(replace(settled, residual=_left(off, settled.residual)),))
    bits = int(-np.log2(finding.difference)) if 0 < finding.difference < 1 else 0
    like = f", as products{where} in {name} have" if (name := _as_large(off)) else ""
    sentence = f"computes with about {bits} significant bits{like}, where float32 has 24"
    return Explanation(causes=(deviation.cause(key="lower-precision", sentence=sentence, residual=finding.difference),))


def _left(off: Sequence[_Product], share: float) -> float:
    """The residual as a difference: it is fitted as a share of what float32's sums leave."""
    return share * max(product.summed for product in off)


def _off(products: Iterator[_Product]) -> list[_Product]:
    return [product for product in products if far(product.found, product.exact) > OFF]


def _layers(trace: StepTrace) -> Iterator[_Product]:
    """Every layer that has weights."""
    inputs = inputs_of(trace)
    outputs = {**trace.activations, **trace.logits}
    for name, layer in (("conv1", "conv1"), ("conv2", "conv2"), ("fc1", "fc1"), ("fc2", "fc2"), ("logits", "fc3")):
        if name in inputs and name in outputs:
            weights, bias = (np.asarray(trace.weights[f"{layer}.{kind}"], np.float64) for kind in ("weight", "bias"))
            yield _Product(
                name=name,
                x=inputs[name],
                weights=weights,
                bias=bias,
                terms=weights[0].size,
                make=_layer(name, layer),
                found=np.asarray(outputs[name], np.float64),
            )


def _first_gradient(trace: StepTrace) -> Iterator[_Product]:
    """The first product of the backward pass; one of its factors is computed itself, in float32."""
    if "relu4" in trace.activations and "fc3.weight" in trace.gradients:
        by_logits = HONEST.by_logits(trace)
        yield _Product(
            name="the gradient of fc3.weight",
            x=np.asarray(trace.activations["relu4"], np.float64),
            weights=by_logits,
            bias=np.zeros(()),
            terms=by_logits.size,
            make=lambda x, dz, b: dz.T @ x + b,
            found=np.asarray(trace.gradients["fc3.weight"], np.float64),
        )


def _layer(name: str, layer: str) -> Callable[[Array, Array, Array], Array]:
    return lambda x, w, b: output_of(NODES[name], x, {f"{layer}.weight": w, f"{layer}.bias": b})


def _where(off: Sequence[_Product]) -> str:
    """Which products: nothing where it is all of them."""
    names = [product.name for product in off]
    layers = [name for name in names if not name.startswith("the gradient")]
    if not layers:
        return " in the backward pass" if names else ""
    convolutions, linear = ["conv1", "conv2"], ["fc1", "fc2", "logits"]
    if layers == [*convolutions, *linear]:
        return ""
    if layers in (convolutions, linear):
        return " in convolutions" if layers == convolutions else " in linear layers"
    return f" in {', '.join(layers)}"


def _fits(off: Sequence[_Product], where: str) -> Iterator[Fit]:
    """Formats, what of a product is rounded to them, and how; residuals as a share of what float32's sums leave."""
    for key, name, bits in FORMATS:
        for way in WAYS:
            known = name.replace("TF32 or float16", "float16") if way.result else name
            for rounding, more in ((_nearest(bits), ""), (_cut(bits), ", cut off instead of rounded")):
                if more and not (way.inputs or way.weights):
                    continue  # a result is rounded to nearest
                residual = max(_share(product, way, rounding, bits) for product in off)
                yield Fit(
                    key=_key(key, known, way), sentence=f"{way.sentence.format(known)}{where}{more}", residual=residual
                )


def _key(key: str, name: str, way: _Way) -> str:
    if way.noun:
        return f"{way.noun}-in-{format_key(name)}"
    return "float16-compute" if name == "float16" else key


def _nearest(bits: int) -> Rounding:
    return lambda values: round_to(values, bits)


def _cut(bits: int) -> Rounding:
    """Towards 0, as hardware does that leaves the last bits of a float32 unread."""

    def cut(values: Array) -> Array:
        mantissa, exponent = np.frexp(values)
        shortened: Array = np.ldexp(np.trunc(np.ldexp(mantissa, bits)), exponent - bits)
        return shortened

    return cut


def _share(product: _Product, way: _Way, rounding: Rounding, bits: int) -> float:
    made = _made(product, way, rounding, bits)
    return min((far(product.found, each) for each in made), default=math.inf) / product.summed


def _made(product: _Product, way: _Way, rounding: Rounding, bits: int) -> Iterator[Array]:
    """The output with these roundings; the bias is rounded as the weights are, or not."""
    x = rounding(product.x) if way.inputs else product.x
    weights = rounding(product.weights) if way.weights else product.weights
    for bias in (product.bias, rounding(product.bias)) if way.weights else (product.bias,):
        made = product.make(x, weights, bias)
        if not way.result:
            yield made
        elif np.array_equal(round_to(product.found, bits), product.found):
            # Which way a sum is rounded may hang on its own rounding in float32.
            allowed = 2.0**-bits * np.abs(made) + product.summed * np.abs(made).max()
            yield np.where(np.abs(product.found - made) <= allowed, product.found, made)


def _as_large(off: Sequence[_Product]) -> str | None:
    """The one format, rounded or cut off, whose errors are as large as those that were found."""
    ways = [
        (f"{name}{more}", to(bits))
        for _, name, bits in FORMATS
        for to, more in ((_nearest, ""), (_cut, " that are cut off instead of rounded"))
    ]
    found = [name for name, to in ways if off and _err_as(off, to)]
    return found[0] if len(found) == 1 else None


def _err_as(off: Sequence[_Product], to: Rounding) -> bool:
    """On average over the products: one by itself may have few roundings that count."""
    ratios = [_ratio(product, to) for product in off]
    return abs(float(np.mean(np.log(ratios)))) <= math.log(ALIKE)


def _ratio(product: _Product, to: Rounding) -> float:
    """The error found, over that of a product whose factors are rounded."""
    made = far(product.make(to(product.x), to(product.weights), product.bias), product.exact)
    return far(product.found, product.exact) / made if made else math.inf
