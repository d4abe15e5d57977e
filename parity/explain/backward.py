"""Why a side's loss or gradients are not those of its own outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.compare import Stage
from parity.compare.formula import EPS, cancelled, loss_size, small_loss_share
from parity.compare.measure import frobenius
from parity.contract import StepTrace
from parity.explain.cause import Cause, Unknown
from parity.explain.evidence import Evidence
from parity.explain.fit import ALLOWED, Deviation, Fit, factor_of, far, settle
from parity.explain.losses import HONEST, PENALISED, Guess, Loss, loss_guesses
from parity.explain.network import MaxPool, Nodes, Part, Relu, gradients_of, output_of
from parity.explain.relayout import FORMATS, rounded_format
from parity.oracle.layers import Array

__all__ = ["Gradients", "allowed_of", "explain_gradients", "explain_loss", "predicted_gradients"]

Gradients = dict[str, Array]


def allowed_of(trace: StepTrace) -> float:
    """What is rounding of a loss and of the gradients: a small loss has lost digits."""
    return ALLOWED + small_loss_share(cancelled(trace.logits, eps=EPS), loss_size(trace.loss))


def explain_loss(evidence: Evidence, nodes: Nodes) -> tuple[list[Cause | Unknown], Loss]:
    """The cause, and the loss as the side computes it."""
    traces = evidence.traces
    if several := _per_example(evidence):
        return [several], HONEST
    distances = [_loss_distance(trace, HONEST.of(trace)) for trace in traces]
    broken = [
        step for step, (far_, trace) in enumerate(zip(distances, traces, strict=True)) if far_ > allowed_of(trace)
    ]
    if not broken:
        return [], HONEST
    guesses = list(loss_guesses(traces, broken, evidence.batch_size))
    residuals = [
        max(_loss_distance(trace, guess.loss.of(trace)) for trace in traces if np.isfinite(guess.loss.of(trace)))
        if all(np.isfinite(guess.loss.of(trace)) for trace in traces)
        else float("inf")
        for guess in guesses
    ]
    deviation = Deviation(
        side=evidence.side,
        step=evidence.first_step + broken[0],
        place=Stage(stage="loss", tensor="loss"),
        difference=distances[broken[0]],
        allowed=max(allowed_of(trace) for trace in traces),
    )
    chosen = _confirmed(evidence, nodes, guesses, residuals, deviation.allowed)
    fits = [Fit(key=guess.key, sentence=guess.sentence, residual=residual) for guess, residual in chosen]
    fits.append(_after_update(evidence, nodes))
    settled = settle(deviation, fits)
    loss = next((guess.loss for guess, residual in chosen if residual <= deviation.allowed), HONEST)
    return [settled], loss


def _per_example(evidence: Evidence) -> Cause | None:
    """A loss of several numbers, whose mean is the loss that is meant."""
    trace = evidence.traces[0]
    sizes = {np.size(value) for value in trace.loss.values()}
    if max(sizes, default=1) == 1:
        return None
    mean = float(np.mean([np.asarray(value, np.float64).mean() for value in trace.loss.values()]))
    residual = far(np.array(mean), np.array(HONEST.of(trace)))
    if residual > allowed_of(trace):
        return None
    place = Stage(stage="loss", tensor="loss")
    deviation = Deviation(side=evidence.side, step=evidence.first_step, place=place, difference=float("inf"))
    sentence = "returns one loss for each example, not their mean"
    return deviation.cause(key="loss-per-example", sentence=sentence, residual=residual)


def _loss_distance(trace: StepTrace, expected: float) -> float:
    return far(np.array(float(np.sum([np.sum(value) for value in trace.loss.values()]))), np.array(expected))


def _confirmed(
    evidence: Evidence, nodes: Nodes, guesses: Sequence[Guess], residuals: Sequence[float], allowed: float
) -> list[tuple[Guess, float]]:
    """Of several losses that fit, those whose gradients fit too, if any do: a scalar alone tells little."""
    pairs = list(zip(guesses, residuals, strict=True))
    good = [(guess, residual) for guess, residual in pairs if residual <= allowed]
    confirmed = [
        (guess, residual) for guess, residual in good if _gradient_distance(evidence, nodes, guess.loss) <= allowed
    ]
    if len(good) > 1 and confirmed:
        return confirmed
    if len(evidence.traces) == 1:  # a constant fits any one number
        good = [(guess, residual) for guess, residual in good if not guess.fitted or (guess, residual) in confirmed]
        pairs = [(guess, residual if not guess.fitted else float("inf")) for guess, residual in pairs]
    return good or sorted(pairs, key=lambda pair: pair[1])


def _gradient_distance(evidence: Evidence, nodes: Nodes, loss: Loss) -> float:
    """How far the first step's gradients are from those of this loss; the worst tensor."""
    trace = evidence.traces[0]
    expected = predicted_gradients(nodes, loss, trace)
    return max(far(trace.gradients.get(name), value) for name, value in expected.items())


def _after_update(evidence: Evidence, nodes: Nodes) -> Fit:
    """The loss of the same batch with the parameters that the step leaves."""
    residual = max(_loss_distance(trace, _loss_with(nodes, trace)) for trace in evidence.traces)
    return Fit(
        key="loss-after-update",
        sentence="reports the loss after the update, not before it",
        residual=residual,
    )


def _loss_with(nodes: Nodes, trace: StepTrace) -> float:
    """The honest loss of a step's batch at the parameters after it."""
    x = np.asarray(trace.batch["images"], np.float64)
    for node in nodes.values():
        x = output_of(node, x, trace.parameters)
    return HONEST.of(replace(trace, logits={"logits": x}))


def predicted_gradients(nodes: Nodes, loss: Loss, trace: StepTrace) -> Gradients:
    """By the chain rule, from what the step recorded."""
    gradients = gradients_of(nodes, trace, loss.by_logits(trace))
    if not loss.penalty:
        return gradients
    extra = loss.by_weights(trace)
    return {name: value + extra[name] for name, value in gradients.items()}


def explain_gradients(
    evidence: Evidence, nodes: Nodes, loss: Loss, clip: Callable[[Gradients], Gradients]
) -> list[Cause | Unknown]:
    """The cause; `clip` is what is asked to be done with gradients before the optimizer sees them."""
    raw = [predicted_gradients(nodes, loss, trace) for trace in evidence.traces]
    found = evidence.tensors("gradients")
    deviation = _first(evidence, found, [clip(each) for each in raw])
    if deviation is None:
        return []
    fits = list(_fits(evidence, nodes=nodes, loss=loss, raw=raw, found=found, clip=clip))
    return [settle(deviation, fits)]


def _first(evidence: Evidence, found: Sequence[Gradients], expected: Sequence[Gradients]) -> Deviation | None:
    for step, (seen, meant) in enumerate(zip(found, expected, strict=True)):
        allowed = allowed_of(evidence.traces[step])
        largest = max((frobenius(value) for value in meant.values()), default=0.0)
        for name in reversed(list(meant)):
            distance = _distance(seen.get(name), meant[name], largest)
            if not distance <= allowed:
                place = Stage(stage="gradients", tensor=name)
                number = evidence.first_step + step
                return Deviation(side=evidence.side, step=number, place=place, difference=distance, allowed=allowed)
    return None


def _distance(seen: Array | None, meant: Array, largest: float) -> float:
    """0 where both are zero but for rounding."""
    if seen is not None and max(frobenius(seen), frobenius(meant)) <= ALLOWED * largest:
        return 0.0
    return far(seen, meant)


def _left(found: Sequence[Gradients], expected: Sequence[Gradients]) -> float:
    """The worst tensor of all steps."""
    worst = 0.0
    for seen, meant in zip(found, expected, strict=True):
        largest = max((frobenius(value) for value in meant.values()), default=0.0)
        worst = max([worst, *(_distance(seen.get(name), value, largest) for name, value in meant.items())])
    return worst


def _fits(
    evidence: Evidence,
    *,
    nodes: Nodes,
    loss: Loss,
    raw: Sequence[Gradients],
    found: Sequence[Gradients],
    clip: Callable[[Gradients], Gradients],
) -> Iterator[Fit]:
    meant = [clip(each) for each in raw]
    mean = [clip(predicted_gradients(nodes, HONEST, trace)) for trace in evidence.traces]
    text = "takes the gradients of the mean cross-entropy, whatever loss it reports"
    yield Fit(key="loss-only-reported", sentence=text, residual=_left(found, mean))
    for key, sentence, changed in _tie_rules(nodes):
        expected = [clip(predicted_gradients(changed, loss, trace)) for trace in evidence.traces]
        yield Fit(key=key, sentence=sentence, residual=_left(found, expected))
    yield from _lost_fits(found, meant)
    yield from _sum_fits(evidence, found, meant)
    yield from _scale_fits(evidence, found, meant)
    yield from _clip_fits(found, raw)
    yield from _rounding_fits(found, meant)


def _tie_rules(nodes: Nodes) -> Iterator[tuple[str, str, Nodes]]:
    """Slopes at a tie, where there are any."""
    for slope in (0.5, 1.0):
        sentence = f"takes {slope:.3g} for the slope of the ReLU at 0, where 0 is meant"
        yield "relu-gradient-at-zero", sentence, _replaced(nodes, Relu, Relu(at_zero=slope))
    shared = "shares the gradient of a tie in a max-pool out evenly, where the first element gets it"
    yield "pool-ties", shared, _replaced(nodes, MaxPool, MaxPool(ties="shared"))
    last = "gives the gradient of a tie in a max-pool to the last element, not the first"
    yield "pool-ties", last, _replaced(nodes, MaxPool, MaxPool(ties="last"))


def _replaced(nodes: Nodes, kind: type[Part], other: Part) -> Nodes:
    """Every part of a kind replaced."""
    return {name: tuple(other if isinstance(part, kind) else part for part in node) for name, node in nodes.items()}


def _lost_fits(found: Sequence[Gradients], meant: Sequence[Gradients]) -> Iterator[Fit]:
    """Some tensors have no gradient, or one that is 0."""
    lost = [name for name in meant[0] if not any(np.any(seen.get(name, 0.0)) for seen in found)]
    lost = [name for name in lost if any(np.any(each[name]) for each in meant)]
    if lost:
        expected = [{name: value * (name not in lost) for name, value in each.items()} for each in meant]
        filled = [
            {name: seen.get(name, np.zeros_like(value)) for name, value in each.items()}
            for seen, each in zip(found, meant, strict=True)
        ]
        sentence = f"loses the gradient of {', '.join(lost)}: it is 0"
        key = "bias-gradient-lost" if all(name.endswith("bias") for name in lost) else "gradient-lost"
        yield Fit(key=key, sentence=sentence, residual=_left(filled, expected))


def _sum_fits(evidence: Evidence, found: Sequence[Gradients], meant: Sequence[Gradients]) -> Iterator[Fit]:
    """Something is added: the gradients of the step before, or a multiple of the parameters."""
    previous = [{name: np.zeros_like(value) for name, value in meant[0].items()}, *found[:-1]]
    summed = [
        {name: value + before[name] for name, value in each.items()}
        for each, before in zip(meant, previous, strict=True)
        if all(name in before and before[name].shape == value.shape for name, value in each.items())
    ]
    if len(summed) == len(found) > 1:
        sentence = "does not reset gradients: each step adds its own to those of the steps before"
        yield Fit(key="gradients-not-reset", sentence=sentence, residual=_left(found, summed))
    for noun, counted in PENALISED:
        factor = _multiple(evidence, found[0], meant[0], counted)
        expected = [
            {
                name: value + factor * counted(name) * np.asarray(trace.weights[name], np.float64)
                for name, value in each.items()
            }
            for each, trace in zip(meant, evidence.traces, strict=True)
        ]
        sentence = f"adds {factor:.6g} times {noun} to the gradients before the optimizer (a weight decay)"
        yield Fit(key="decay-in-gradient", sentence=sentence, residual=_left(found, expected))


def _multiple(evidence: Evidence, found: Gradients, meant: Gradients, counted: Callable[[str], bool]) -> float:
    """The c of found = meant + c p, by least squares over the tensors that count."""
    weights = evidence.traces[0].weights
    names = [name for name in _shared(found, meant) if counted(name)]
    return factor_of([found[name] - meant[name] for name in names], [weights[name] for name in names])


def _shared(found: Gradients, meant: Gradients) -> list[str]:
    """The tensors that can be held against each other."""
    return [name for name in meant if name in found and found[name].shape == meant[name].shape]


def _scale_fits(evidence: Evidence, found: Sequence[Gradients], meant: Sequence[Gradients]) -> Iterator[Fit]:
    """All tensors times one factor: the same in each step, or the batch's size."""
    factors = [_factor(seen, each) for seen, each in zip(found, meant, strict=True)]
    sizes = [len(rows) for rows in evidence.rows]
    for key, text, expected in (
        ("gradients-summed", "sums gradients over the batch instead of taking the mean", sizes),
        ("gradients-scaled", f"multiplies gradients by {factors[0]:.6g}", [factors[0]] * len(sizes)),
    ):
        scaled = [{name: c * value for name, value in each.items()} for c, each in zip(expected, meant, strict=True)]
        reversed_ = np.isclose(expected[0], -1, rtol=1e-12)
        sentence = "reverses the sign of the gradients" if reversed_ else text
        yield Fit(key=key, sentence=sentence, residual=_left(found, scaled))


def _factor(found: Gradients, meant: Gradients) -> float:
    names = _shared(found, meant)
    return factor_of([found[name] for name in names], [meant[name] for name in names])


def _norm(gradients: Gradients) -> float:
    return math.hypot(*map(frobenius, gradients.values()))


def _clip_fits(found: Sequence[Gradients], raw: Sequence[Gradients]) -> Iterator[Fit]:
    """Gradients that are cut where they are large, by their common norm, each tensor's own, or each element's size."""
    yield Fit(key="clipping-lost", sentence="does not clip gradients", residual=_left(found, raw))
    largest = max(_norm(each) for each in found)
    for epsilon in (1e-6, 0.0):
        # With torch's epsilon a clipped norm is n / (n + epsilon) of the limit, n the norm before.
        before = max(_norm(each) for each in raw)
        limit = largest * (before + epsilon) / before if before else largest
        norms = [_norm(each) for each in raw]  # 0 where every output is saturated
        shares = [min(1.0, limit / (norm + epsilon)) if norm else 1.0 for norm in norms]
        expected = [_scaled(each, share) for each, share in zip(raw, shares, strict=True)]
        limited = f"clips gradients at a norm of {limit:.6g}"
        sentence = limited if epsilon else f"{limited}, without torch's epsilon of 1e-6"
        yield Fit(key="extra-clipping", sentence=sentence, residual=_left(found, expected))
    bound = max(float(np.abs(value).max(initial=0.0)) for each in found for value in each.values())
    cut = [{name: np.clip(value, -bound, bound) for name, value in each.items()} for each in raw]
    yield Fit(
        key="value-clipping", sentence=f"clips each element of the gradients at {bound:.6g}", residual=_left(found, cut)
    )
    own = max(frobenius(value) for each in found for value in each.values())
    single = [
        {name: value * min(1.0, own / frobenius(value)) if np.any(value) else value for name, value in each.items()}
        for each in raw
    ]
    sentence = f"clips each tensor's gradient at a norm of {own:.6g}, not all together"
    yield Fit(key="clipping-per-tensor", sentence=sentence, residual=_left(found, single))


def _scaled(gradients: Gradients, factor: float) -> Gradients:
    return {name: factor * value for name, value in gradients.items()}


def _rounding_fits(found: Sequence[Gradients], meant: Sequence[Gradients]) -> Iterator[Fit]:
    names = [
        {rounded_format(seen[n], value, sums=False) for n, value in each.items() if n in seen and np.any(value)}
        for seen, each in zip(found, meant, strict=True)
    ]
    formats = set[str | None]().union(*names)
    finest = next((name for name in FORMATS if name in formats), None)
    if finest and None not in formats:
        yield Fit(key="gradient-rounded", sentence=f"rounds gradients to {finest}", residual=0.0)
