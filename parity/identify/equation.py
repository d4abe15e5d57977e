"""A rule as lines of text: one step of a parameter p with gradient g; t counts the updates from 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from parity.identify.rule import BY_NORM, Rule

__all__ = ["equation"]


def equation(rule: Rule, decays: Mapping[str, float], names: Sequence[str]) -> tuple[str, ...]:
    """One step, in order."""
    lines = [*_gradient(rule), *_scaling(rule), *_step(rule)]
    if rule.decay != "none" and set(decays) != set(names):
        lines.append(f"weight_decay = 0 for {', '.join(name for name in names if name not in decays)}")
    return tuple(lines)


def _gradient(rule: Rule) -> Iterator[str]:
    if rule.clip in BY_NORM:
        size = {"norm": "(|g| + 1e-6)", "exact": "|g|", "sum": "(|g| + 1e-6 / k)"}[rule.clip]
        told = ", g the mean of k gradients that were summed" if rule.clip == "sum" else ""
        yield f"g = g min(1, max_norm / {size})    |g| over all tensors{told}"
    if rule.clip == "value":
        yield "g = min(max(g, -clip_value), clip_value)"
    if rule.ascent:
        yield "g = -g"
    if rule.decay == "coupled":
        yield "g = g + weight_decay p"


def _scaling(rule: Rule) -> Iterator[str]:
    if rule.scaling == "none":
        return
    if rule.scaling == "lion":
        yield "q = sign(b1 m + (1 - b1) g)"
        yield "m = b2 m + (1 - b2) g"
        return
    numerator, square = "g", "v"
    if rule.scaling == "adam":
        yield "m = b1 m + (1 - b1) g"
        yield "v = b2 v + (1 - b2) g^2"
        numerator, square = "m / (1 - b1^t)", "v / (1 - b2^t)"
    elif rule.scaling == "rms":
        yield "v = alpha v + (1 - alpha) g^2"
        if rule.centered:
            yield "a = alpha a + (1 - alpha) g"
            square = "v - a^2"
    else:
        yield f"v = v + g^2    from {'initial_accumulator' if rule.initial else '0'}"
    root = f"sqrt({square}{' + eps_root' if rule.epsilon in ('inside', 'both') else ''})"
    yield f"q = {numerator} / {f'({root} + eps)' if rule.epsilon in ('outside', 'both') else root}"


def _step(rule: Rule) -> Iterator[str]:
    q = "g" if rule.scaling == "none" else "q"
    decay = {"decoupled": " - lr weight_decay p", "constant": " - weight_decay p"}.get(rule.decay, "")
    if rule.buffer == "none":
        yield f"p = p - lr {q}{decay}"
    elif rule.buffer == "keras":
        yield f"v = momentum v - lr {q}" if rule.scaling == "none" else f"w = momentum w - lr {q}"
        v = "v" if rule.scaling == "none" else "w"
        yield f"p = p + momentum {v} - lr {q}{decay}" if rule.nesterov else f"p = p + {v}{decay}"
    elif rule.buffer == "debiased":
        yield f"b = momentum b + (1 - momentum) {q}"
        yield f"p = p - lr b / (1 - momentum^t){decay}"
    else:
        factor = "(1 - dampening) " if rule.dampened else ""
        yield f"b = momentum b + {factor}{q}{f'    b = {q} on the first step' if rule.dampened else ''}"
        yield f"p = p - lr ({q} + momentum b){decay}" if rule.nesterov else f"p = p - lr b{decay}"
