"""A rule as one chain of optax's transformations; given are `optax`, `jax` and `jnp`, jax.numpy.

Rates are an array that the update's count indexes, and torch's clipping is spelled out: optax' own schedules count in
float32, and its clipping has no epsilon. In float64 the chain is exact only where JAX computes in it (jax.enable_x64).
"""

from __future__ import annotations

from collections.abc import Mapping

from parity.identify.constructors import NOTHING, Made
from parity.identify.rule import Rule
from parity.identify.simulate import CLIP_EPS

__all__ = ["optax_code"]


def optax_code(made: Made) -> str:
    """An expression, or why there is none."""
    rule, every = made.rule, made.run.every
    if why := _missing(made):
        return f"none: {why}"
    parts = _chain(made, rule)
    if made.frozen:
        off = {name: name in made.frozen for name in made.run.names}
        parts.append(f"optax.masked(optax.set_to_zero(), {off!r})")
    chain = f"optax.chain({', '.join(parts)})" if len(parts) > 1 else parts[0]
    if every > 1:
        dtype = "float64" if made.run.eps < _DOUBLE else "float32"
        chain = f"optax.MultiSteps({chain}, {every}, accumulator_dtype=jnp.{dtype})"
    return chain + (f"  # {made.unseen}" if made.unseen else "")


_DOUBLE = 1e-10  # between both dtypes' eps


def _missing(made: Made) -> str:
    """Why optax cannot do it; nothing where it can."""
    rule = made.rule
    if rule.scaling == "adagrad" and rule.epsilon == "outside":
        return "optax.adagrad adds epsilon inside the root"
    if rule.buffer == "keras" and rule.decay == "decoupled":
        return "optax has no decay times lr after a trace"
    trained = made.run.tensors(made.trained)
    if trained.skipped is not None:
        return "tensors have no gradient at some steps, where optax would go on with their buffers"
    return ""


def _chain(made: Made, rule: Rule) -> list[str]:
    c = made.numbers
    parts = [*_clipping(made), *(["optax.scale(-1.0)"] if rule.ascent else [])]
    if rule.decay == "coupled":
        parts += _decay(made)
    parts += _scaling(rule, c)
    trace = f"optax.trace({c.get('momentum')!r}{', nesterov=True' if rule.nesterov else ''})"
    if rule.buffer == "torch":
        parts += [*_dampening(rule, c), trace]
    if rule.buffer == "debiased":
        parts.append(f"optax.ema({c['momentum']!r})")
    if rule.decay == "decoupled":
        parts += _decay(made)
    parts.append(f"optax.scale_by_learning_rate({_rates(made)})")
    if rule.buffer == "keras":
        parts.append(trace)
    if rule.decay == "constant":
        parts += _decay(made, sign=-1)
    return parts


def _clipping(made: Made) -> list[str]:
    rule, c = made.rule, made.numbers
    if rule.clip == "value":
        return [f"optax.clip({c['clip_value']!r})"]
    if rule.clip == "exact":
        return [f"optax.clip_by_global_norm({c['max_norm']!r})"]
    if rule.clip == "none":
        return []
    added = CLIP_EPS / (made.run.every if rule.clip == "sum" else 1)
    factor = f"jnp.minimum(1.0, {c['max_norm']!r} / (optax.tree.norm(g) + {added!r}))"
    return [f"optax.stateless(lambda g, _: jax.tree.map(lambda x: x * {factor}, g))"]


def _scaling(rule: Rule, c: Mapping[str, float]) -> list[str]:
    if rule.scaling == "adam":
        root = f", eps_root={c['eps_root']!r}" if "eps_root" in c else ""
        eps = c.get("eps", 0.0 if root else NOTHING)
        return [f"optax.scale_by_adam({c['b1']!r}, {c['b2']!r}, eps={eps!r}{root})"]
    if rule.scaling == "rms":
        name = "scale_by_stddev" if rule.centered else "scale_by_rms"
        inside = rule.epsilon == "inside"
        eps = c.get("eps_root" if inside else "eps", NOTHING)
        return [f"optax.{name}({c['alpha']!r}, eps={eps!r}, eps_in_sqrt={inside})"]
    if rule.scaling == "adagrad":
        initial = c.get("initial_accumulator", 0.0)
        return [f"optax.scale_by_rss({initial!r}, eps={c.get('eps_root', 0.0)!r})"]
    if rule.scaling == "lion":
        return [f"optax.scale_by_lion({c['b1']!r}, {c['b2']!r})"]
    return []


def _dampening(rule: Rule, c: Mapping[str, float]) -> list[str]:
    """1 - dampening from the second step on: a scale by a schedule of the count."""
    if not rule.dampened:
        return []
    return [f"optax.scale_by_schedule(lambda count: jnp.where(count > 0, {1 - c['dampening']!r}, 1.0))"]


def _decay(made: Made, sign: int = 1) -> list[str]:
    """One transformation for each decay; the mask names every tensor of the run, as optax wants it."""
    lines = []
    for value, names in made.decays.items():
        mask = {name: name in names for name in made.run.names}
        masked = "" if len(made.decays) == 1 else f", mask={mask!r}"
        lines += [f"optax.add_decayed_weights({sign * value!r}{masked})"] if value else []
    return lines


def _rates(made: Made) -> str:
    schedule = made.schedule
    if schedule.name == "constant":
        return repr(float(schedule.rates[0]))
    values = ", ".join(map(repr, schedule.rates.tolist()))
    return f"lambda count: jnp.array([{values}])[count]"
