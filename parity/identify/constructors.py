"""A rule as one line of torch and one of optax: real constructors, `params` being the parameters.

torch: `params` is a dictionary of name -> tensor; what the optimizer does not do (clipping, accumulation, the schedule)
is named after a "#". optax: a gradient transformation; where it is one, the schedule is an array of rates, read by the
update's count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parity.identify.fit import UNSEEN
from parity.identify.rule import BY_NORM, DECAY, Rule
from parity.identify.search import Found

__all__ = ["optax_line", "torch_line"]


def torch_line(found: Found, names: Sequence[str], every: int) -> str:
    """The constructor, or why torch.optim has none."""
    rule = found.rule
    if rule.scaling == "lion":
        return "none: torch.optim has no Lion"
    name = _torch_name(rule)
    if name is None:
        return f"none: torch.optim.{_TORCH[rule.scaling]} has no such form"
    rate = abs(float(found.schedule.rates[0])) if len(found.schedule.rates) else 0.0
    groups, decay = _torch_groups(found, names, name)
    arguments = {"lr": rate, **_torch_constants(rule, _numbers(found)), **_flags(rule), **decay}
    text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"torch.optim.{name}({groups}, {text}){_besides(found, every)}"


_TORCH = {"none": "SGD", "adam": "Adam", "rms": "RMSprop", "adagrad": "Adagrad"}


def _torch_name(rule: Rule) -> str | None:
    """The class, or None where torch has no such form."""
    if rule.scaling == "adam" and rule.decay == "decoupled" and rule.epsilon in ("none", "outside"):
        return "AdamW"
    # Without a buffer, decoupled decay is what coupled decay is, times lr too.
    decoupled = rule.decay == "constant" or (
        rule.decay == "decoupled" and (rule.scaling != "none" or rule.buffer != "none")
    )
    inside = rule.epsilon in ("inside", "both") or rule.buffer in ("keras", "debiased")
    return None if decoupled or inside else _TORCH[rule.scaling]


def _torch_constants(rule: Rule, c: Mapping[str, float]) -> dict[str, object]:
    eps = c.get("eps", 0.0)
    if rule.scaling == "adam":
        return {"betas": (c["b1"], c["b2"]), "eps": eps}
    if rule.scaling == "rms":
        return {"alpha": c["alpha"], "eps": eps, "momentum": c.get("momentum", 0.0)}
    if rule.scaling == "adagrad":
        return {"eps": eps, "initial_accumulator_value": c.get("initial_accumulator", 0.0)}
    return {name: c[name] for name in ("momentum", "dampening") if name in c}


def _flags(rule: Rule) -> dict[str, bool]:
    flags = {"nesterov": rule.nesterov, "centered": rule.centered, "maximize": rule.ascent}
    return {name: True for name, on in flags.items() if on}


def _torch_groups(found: Found, names: Sequence[str], name: str) -> tuple[str, dict[str, float]]:
    """What is optimized, in groups if only some of it decays, and the decay if all of it does."""
    decays = _decays(found, names)
    off = {"weight_decay": 0.0} if name == "AdamW" else {}
    if not decays:
        return "params.values()", off
    if len(set(decays.values())) == 1 and len(decays) == len(names):
        return "params.values()", {"weight_decay": next(iter(decays.values()))}
    return f'[{{"params": [p], "weight_decay": {decays!r}.get(n, 0.0)}} for n, p in params.items()]', {}


def _besides(found: Found, every: int) -> str:
    rule, c = found.rule, _numbers(found)
    parts = [
        f"torch.nn.utils.clip_grad_norm_(params.values(), {c['max_norm']!r})" if rule.clip == "norm" else "",
        f"gradients times min(1, {c.get('max_norm')!r} / norm)" if rule.clip == "exact" else "",
        f"gradients times min(1, {c.get('max_norm')!r} / (norm + 1e-6 / {every}))" if rule.clip == "sum" else "",
        f"torch.nn.utils.clip_grad_value_(params.values(), {c['clip_value']!r})" if rule.clip == "value" else "",
        f"one step() for the mean of {every} gradients" if every > 1 else "",
        f"lr by the schedule: {found.schedule.name}" if found.schedule.name != "constant" else "",
        _unseen(found),
    ]
    text = "; ".join(part for part in parts if part)
    return f"  # {text}" if text else ""


def _unseen(found: Found) -> str:
    """Which constants are nothing but where the search began."""
    errors = {name: float(np.max(value)) for name, value in found.fit.errors.items() if name != DECAY}
    unseen = [name for name, error in errors.items() if not error < UNSEEN]
    return f"this run does not show {', '.join(unseen)}" if unseen else ""


def optax_line(found: Found, names: Sequence[str], every: int) -> str:
    """A chain of optax's transformations; `jnp` is jax.numpy."""
    rule, c = found.rule, _numbers(found)
    if rule.scaling == "adagrad" and rule.epsilon == "outside":
        return "none: optax.adagrad adds epsilon inside the root"
    if rule.buffer == "keras" and rule.decay == "decoupled":
        return "none: optax has no decay times lr after a trace"
    parts = []
    if rule.clip in BY_NORM:
        parts.append(f"optax.clip_by_global_norm({c['max_norm']!r})")
    if rule.clip == "value":
        parts.append(f"optax.clip({c['clip_value']!r})")
    if rule.ascent:
        parts.append("optax.scale(-1.0)")
    if rule.decay == "coupled":
        parts += _optax_decay(found, names)
    parts += _optax_scaling(rule, c)
    rate = f"optax.scale_by_learning_rate({_rates(found)})"
    if rule.buffer == "torch":
        parts += _optax_dampening(rule, c)
        parts.append(f"optax.trace({c['momentum']!r}{', nesterov=True' if rule.nesterov else ''})")
    if rule.buffer == "debiased":
        parts.append(f"optax.ema({c['momentum']!r})")
    if rule.decay == "decoupled" and rule.buffer != "keras":
        parts += _optax_decay(found, names)
    parts.append(rate)
    if rule.buffer == "keras":
        parts.append(f"optax.trace({c['momentum']!r}{', nesterov=True' if rule.nesterov else ''})")
    if rule.decay == "constant":
        parts += _optax_decay(found, names, sign=-1)
    chain = f"optax.chain({', '.join(parts)})" if len(parts) > 1 else parts[0]
    notes = ["torch adds 1e-6 to the norm" if rule.clip in ("norm", "sum") else "", _unseen(found)]
    note = "; ".join(each for each in notes if each)
    return (f"optax.MultiSteps({chain}, {every})" if every > 1 else chain) + (f"  # {note}" if note else "")


def _optax_scaling(rule: Rule, c: Mapping[str, float]) -> list[str]:
    if rule.scaling == "adam":
        root = f", eps_root={c['eps_root']!r}" if "eps_root" in c else ""
        return [f"optax.scale_by_adam({c['b1']!r}, {c['b2']!r}, eps={c.get('eps', 0.0)!r}{root})"]
    if rule.scaling == "rms":
        name = "scale_by_stddev" if rule.centered else "scale_by_rms"
        inside = rule.epsilon == "inside"
        eps = c.get("eps_root" if inside else "eps", 0.0)
        return [f"optax.{name}({c['alpha']!r}, eps={eps!r}, eps_in_sqrt={inside})"]
    if rule.scaling == "adagrad":
        initial = c.get("initial_accumulator", 0.0)
        return [f"optax.scale_by_rss({initial!r}, eps={c.get('eps_root', 0.0)!r})"]
    if rule.scaling == "lion":
        return [f"optax.scale_by_lion({c['b1']!r}, {c['b2']!r})"]
    return []


def _optax_dampening(rule: Rule, c: Mapping[str, float]) -> list[str]:
    """1 - dampening from the second step on: a scale by a schedule of the count."""
    if not rule.dampened:
        return []
    return [f"optax.scale_by_schedule(lambda count: jnp.where(count > 0, {1 - c['dampening']!r}, 1.0))"]


def _optax_decay(found: Found, names: Sequence[str], sign: int = 1) -> list[str]:
    decays = _decays(found, names)
    lines = []
    for value in sorted(set(decays.values())):
        masked = [name for name, decay in decays.items() if decay == value]
        mask = "" if len(masked) == len(names) else f", mask={ {name: name in masked for name in names}!r}"
        lines.append(f"optax.add_decayed_weights({sign * value!r}{mask})")
    return lines


def _rates(found: Found) -> str:
    schedule = found.schedule
    if schedule.name == "constant":
        return repr(abs(float(schedule.rates[0])))
    # Rates one by one are exact; optax's own schedules count in float32.
    values = ", ".join(repr(abs(float(value))) for value in schedule.rates)
    return f"lambda count: jnp.array([{values}])[count]"


def _numbers(found: Found) -> dict[str, float]:
    return {name: float(np.asarray(value)) for name, value in found.fit.constants.items() if name != DECAY}


def _decays(found: Found, names: Sequence[str]) -> dict[str, float]:
    if found.rule.decay == "none":
        return {}
    values = np.broadcast_to(np.asarray(found.fit.constants[DECAY]), len(names))
    return {name: float(value) for name, value in zip(names, values, strict=True) if value}
