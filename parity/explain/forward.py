"""Which layer computes something else from what it was given, and what: one part left out, added or replaced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from parity.compare import Stage
from parity.contract import CNN_PARAMETERS, StepTrace
from parity.explain.cause import Cause, Unknown
from parity.explain.evidence import Evidence
from parity.explain.fit import ALLOWED, Deviation, Fit, factor_of, far, first_deviation, settle
from parity.explain.network import (
    Convolution,
    Flatten,
    Linear,
    Map,
    MaxPool,
    Node,
    Nodes,
    Relu,
    average_pool,
    inputs_of,
    output_of,
    softmax,
)
from parity.explain.relayout import format_key, rounded_format
from parity.explain.weights import reading_key, weight_readings
from parity.oracle.layers import Array

__all__ = ["explain_forward", "node_variants", "other_activations"]

Variant = tuple[str, str, Node]
"""Key, sentence, and the node as the side has it."""


def explain_forward(evidence: Evidence, nodes: Nodes) -> tuple[list[Cause | Unknown], Nodes]:
    """The causes, layer by layer; and the layers as the side has them, for its gradients."""
    found: list[Cause | Unknown] = []
    changed = dict(nodes)
    for name, node in nodes.items():
        steps = [(trace, x) for trace in evidence.traces if (x := inputs_of(trace).get(name)) is not None]
        place = Stage(stage="logits" if name == "logits" else "activations", tensor=name)
        distances = [far(_output(trace, name), _computed(node, x, trace)) for trace, x in steps]
        deviations = [
            Deviation(side=evidence.side, step=evidence.first_step + step, place=place, difference=distance)
            for step, distance in enumerate(distances)
        ]
        if deviation := first_deviation(deviations):
            settled, changed[name] = _explain_node(deviation, name, node, steps)
            found.append(settled)
    return found, changed


def _output(trace: StepTrace, name: str) -> Array | None:
    value = trace.logits.get("logits") if name == "logits" else trace.activations.get(name)
    return None if value is None else np.asarray(value, np.float64)


def _computed(node: Node, x: Array, trace: StepTrace) -> Array | None:
    """None where the part does not fit the shapes."""
    try:
        return output_of(node, x, trace.weights)
    except ValueError:
        return None


def _explain_node(
    deviation: Deviation, name: str, node: Node, steps: Sequence[tuple[StepTrace, Array]]
) -> tuple[Cause | Unknown, Node]:
    fits, nodes = [], {}
    for key, sentence, variant in (*node_variants(name, node), *_fitted(name, node, steps)):
        residual = max(far(_output(trace, name), _computed(variant, x, trace)) for trace, x in steps[:1])
        if residual <= ALLOWED:  # only what fits one step is worth the time of the others
            residual = max(far(_output(trace, name), _computed(variant, x, trace)) for trace, x in steps)
        fits.append(Fit(key=key, sentence=sentence, residual=residual))
        nodes[sentence] = variant
    fits += _rounded(name, node, steps)
    settled = settle(deviation, fits)
    return settled, nodes.get(settled.sentence, node) if isinstance(settled, Cause) else node


def _rounded(name: str, node: Node, steps: Sequence[tuple[StepTrace, Array]]) -> Iterator[Fit]:
    """The layer's outputs hold no more bits than a lower precision has; its terms may be rounded as well."""
    pairs = [(_output(trace, name), _computed(node, x, trace)) for trace, x in steps]
    formats = {rounded_format(found, made) for found, made in pairs if found is not None and made is not None}
    if len(formats) == 1 and (format_ := formats.pop()):
        yield Fit(key=f"computes-in-{format_key(format_)}", sentence=f"computes {name} in {format_}", residual=0.0)


def node_variants(name: str, node: Node) -> Iterator[Variant]:
    """The node with one part changed."""
    for number, part in enumerate(node):
        for key, sentence, parts in _part_variants(name, part):
            yield key, sentence, (*node[:number], *parts, *node[number + 1 :])
    yield "relu-on-logits" if name == "logits" else "extra-relu", f"applies a ReLU to {name}", (*node, Relu())
    if name == "logits":
        yield "softmax-on-logits", "returns probabilities as logits (a softmax in the model)", (*node, _softmax)


def _part_variants(name: str, part: object) -> Iterator[Variant]:
    if isinstance(part, Relu):
        yield f"relu-missing-{_BEFORE_RELU[name]}", f"leaves out the ReLU of {name}", ()
        for other in other_activations():
            yield "other-activation", f"has {other.name} in place of the ReLU of {name}", (other,)
    if isinstance(part, MaxPool):
        yield "average-pool", f"has an average pool in place of the max-pool of {name}", (average_pool,)
        yield "pool-left-out", f"leaves out the max-pool of {name}", ()
    if isinstance(part, Flatten):
        for order in ("HWC", "CWH", "WHC", "HCW", "WCH"):
            sentence = f"{name} sees the features in {','.join(order)} order, where C,H,W is meant"
            yield "flatten-order", sentence, (Flatten(order=order),)
    if isinstance(part, (Convolution, Linear)):
        yield from _affine_variants(name, part)


def _affine_variants(name: str, part: Convolution | Linear) -> Iterator[Variant]:
    kind = type(part)
    yield "bias-left-out", f"leaves out the bias of {part.layer}", (kind(layer=part.layer, bias=False),)
    if isinstance(part, Convolution):
        same = Convolution(layer=part.layer, padding=(2, 2))
        yield "padding-same", f"pads {name} with zeros, so that its size stays the same (SAME)", (same,)
        for before in range(1, 5):
            shifted = Convolution(layer=part.layer, padding=(before, 0), size=_SIZES[name])
            sentence = f"pads {name} with {before} zeros before each axis, and cuts it to its size"
            yield "padding-same", sentence, (shifted,)
    weight = f"{part.layer}.weight"
    for reading in weight_readings(weight, CNN_PARAMETERS[weight]):
        key = reading_key(part.layer, reading)
        if "taken for" in reading.name:
            continue  # the same as another order of the features, gradients included
        yield key, f"reads {weight} {reading.name}", (kind(layer=part.layer, reading=reading),)


_BEFORE_RELU = {"pool1": "conv1", "pool2": "conv2", "relu3": "fc1", "relu4": "fc2"}

_SIZES = {"conv1": 32, "conv2": 14}
"""Height and width of the images that it reads."""


def _fitted(name: str, node: Node, steps: Sequence[tuple[StepTrace, Array]]) -> Iterator[Variant]:
    """The node followed by a factor, by least squares; or by a dropout, whose choice was its own in each step."""
    trace, x = steps[0]
    found, made = _output(trace, name), _computed(node, x, trace)
    if found is None or made is None or found.shape != made.shape or not made.any():
        return
    factor = factor_of([found], [made])
    scaled = _pointwise(f"a factor {factor:.6g}", lambda z: factor * z, lambda z: np.full_like(z, factor))
    yield "layer-scaled", f"multiplies {name} by {factor:.6g}", (*node, scaled)
    kept = found != 0
    rates = found[kept] / made[kept] if kept.any() and made[kept].all() else np.empty(0)
    if rates.size and 0 < kept.mean() < 1 and np.ptp(rates) <= 1e-9 * abs(rates[0]) and rates[0] > 1:
        yield (
            "dropout-left-on",
            f"has a dropout of {1 - 1 / rates[0]:.3g} at {name}",
            (*node, _Dropout([(x, _output(trace, name)) for trace, x in steps], node)),
        )


class _Dropout:
    """Zeros where the recorded output has them, and the rest scaled as they are: known only for the recorded steps."""

    def __init__(self, steps: Sequence[tuple[Array, Array | None]], node: Node) -> None:
        self.outputs = [found for _, found in steps]
        self.node = node

    def forward(self, x: Array, weights: object) -> Array:  # noqa: ARG002
        """The recorded step's factors on x, which is the node's output without the dropout."""
        return x * self._factors(x)

    def backward(self, upstream: Array, x: Array, weights: object) -> tuple[Array, dict[str, Array]]:  # noqa: ARG002
        """See `Part`."""
        return upstream * self._factors(x), {}

    def _factors(self, x: Array) -> Array:
        """0, or what the elements that are left have in common."""
        for found in self.outputs:
            if found is None or found.shape != x.shape:
                continue
            kept = (found != 0) & (x != 0)
            rate = float(np.median(found[kept] / x[kept])) if kept.any() else 1.0
            factors: Array = np.where(found != 0, rate, 0.0)
            if far(found, x * factors) <= ALLOWED:
                return factors
        return np.ones_like(x)


def _pointwise(name: str, function: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Map:
    return Map(name=name, function=function, pullback=lambda upstream, x: upstream * slope(x))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def other_activations() -> Iterator[Map]:
    """What else stands between layers."""
    yield _pointwise("tanh", np.tanh, lambda x: 1 - np.tanh(x) ** 2)
    yield _pointwise("a sigmoid", _sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x)))
    yield _pointwise("a SiLU", lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))))
    yield _pointwise(
        "a GELU",
        lambda x: x * _normal(x),
        lambda x: _normal(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    )
    yield _pointwise("a GELU (tanh)", _gelu_tanh, _gelu_tanh_slope)
    yield _pointwise("a ReLU6", lambda x: np.clip(x, 0, 6), lambda x: ((x > 0) & (x < 6)).astype(np.float64))
    yield _pointwise("an ELU", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), _elu_slope)
    yield _pointwise("a softplus", lambda x: np.logaddexp(x, 0), _sigmoid)
    yield _pointwise("the absolute value", np.abs, np.sign)
    for slope in (0.01, 0.1, 0.2):
        yield _pointwise(
            f"a leaky ReLU of slope {slope}",
            lambda x, slope=slope: np.where(x > 0, x, slope * x),  # type: ignore[misc]
            lambda x, slope=slope: np.where(x > 0, 1.0, slope),  # type: ignore[misc]
        )


def _normal(x: Array) -> Array:
    """The distribution function of the standard normal distribution."""
    halves: Array = np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))
    return (1 + halves) / 2


def _elu_slope(x: Array) -> Array:
    slope: Array = np.where(x > 0, 1.0, np.exp(np.minimum(x, 0)))
    return slope


_GELU = (np.sqrt(2 / np.pi), 0.044715)


def _gelu_tanh(x: Array) -> Array:
    y: Array = x * (1 + np.tanh(_GELU[0] * (x + _GELU[1] * x**3))) / 2
    return y


def _gelu_tanh_slope(x: Array) -> Array:
    inner = np.tanh(_GELU[0] * (x + _GELU[1] * x**3))
    slope: Array = (1 + inner) / 2 + x * (1 - inner**2) * _GELU[0] * (1 + 3 * _GELU[1] * x**2) / 2
    return slope


_softmax = Map(
    name="a softmax",
    function=softmax,
    pullback=lambda upstream, x: softmax(x) * (upstream - (upstream * softmax(x)).sum(axis=1, keepdims=True)),
)
