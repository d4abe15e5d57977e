"""A rule in torch: the optimizer and its scheduler, and what is done at each step, where that is more than `step()`.

Given are `torch`, `math`, `params` (constructors.py), and at each step its number `step`, from 0, and every gradient in
`p.grad`, as backward() leaves it: the sum of those since it was last emptied. What the gradient's norm is made of is
every tensor's gradient, the frozen ones' too, as it was when this run was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from parity.identify.constructors import NOTHING, Made
from parity.identify.rule import Rule
from parity.identify.torch_schedule import torch_schedule

__all__ = ["torch_code", "torch_steps"]


def torch_code(made: Made) -> str:
    """Statements that make `optimizer`, and `scheduler` where lr changes; or why torch.optim has no such rule."""
    rule = made.rule
    if why := _missing(rule):
        return f"none: {why}"
    name = _class(rule)
    groups, decay = _groups(made, name)
    rate, scheduler = torch_schedule(made.schedule, single=made.run.eps > _DOUBLE)
    arguments = {"lr": rate, **_constants(rule, made.numbers), **_flags(rule), **decay}
    text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    lines = [f"optimizer = torch.optim.{name}({groups}, {text})"]
    if scheduler:
        lines.append(f"scheduler = {scheduler}")
    return "; ".join(lines) + (f"  # {made.unseen}" if made.unseen else "")


_DOUBLE = 1e-10  # between both dtypes' eps


def torch_steps(made: Made) -> tuple[str, ...]:
    """What each step of the run does with the gradients in `p.grad`, line by line; nothing where there is no rule."""
    if _missing(made.rule):
        return ()
    moved = ["optimizer.step()", *(["scheduler.step()"] if made.schedule.name != "constant" else [])]
    if made.run.every == 1:
        return (*_clipping(made), "; ".join(moved))
    update = [*_mean(made), "; ".join(moved), "for p in params.values(): p.grad = None"]
    return f"if (step + 1) % {made.run.every} == 0:", *(f"    {line}" for line in update)


_GRADIENTS = "gradients = [p.grad for p in params.values() if p.grad is not None]"


def _missing(rule: Rule) -> str:
    """Why torch.optim cannot do it; nothing where it can."""
    if rule.scaling == "lion":
        return "torch.optim has no Lion"
    return "" if _class(rule) else f"torch.optim.{_CLASSES[rule.scaling]} has no such form"


_CLASSES = {"none": "SGD", "adam": "Adam", "rms": "RMSprop", "adagrad": "Adagrad"}


def _class(rule: Rule) -> str:
    """The class, or nothing where torch has no such form."""
    if rule.scaling == "adam" and rule.decay == "decoupled" and rule.epsilon in ("none", "outside"):
        return "AdamW"
    # Without a buffer, decoupled decay is what coupled decay is, times lr too.
    decoupled = rule.decay == "constant" or (
        rule.decay == "decoupled" and (rule.scaling != "none" or rule.buffer != "none")
    )
    inside = rule.epsilon in ("inside", "both") or rule.buffer in ("keras", "debiased")
    return "" if decoupled or inside else _CLASSES[rule.scaling]


def _constants(rule: Rule, c: Mapping[str, float]) -> dict[str, object]:
    eps = c.get("eps", NOTHING)
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


def _groups(made: Made, name: str) -> tuple[str, dict[str, float]]:
    """What is optimized, in groups if not all of it decays alike, and the decay where it does."""
    if len(made.decays) > 1:
        groups = [
            f'{{"params": {_chosen(names, made.run.names)}, "weight_decay": {decay!r}}}'
            for decay, names in made.decays.items()
        ]
        return f"[{', '.join(groups)}]", {}
    off = {"weight_decay": 0.0} if name == "AdamW" else {}
    return _chosen(made.trained, made.run.names), {"weight_decay": next(iter(made.decays))} if made.decays else off


def _chosen(names: Sequence[str], every: Sequence[str]) -> str:
    """Those tensors of all, the shorter way."""
    rest = [name for name in every if name not in names]
    if not rest:
        return "params.values()"
    kept = f"not in {rest!r}" if len(rest) < len(names) else f"in {list(names)!r}"
    return f"[p for n, p in params.items() if n {kept}]"


def _mean(made: Made) -> Iterator[str]:
    """Sums of gradients become means; torch's clipping of the sums comes before it."""
    every = made.run.every
    if made.rule.clip == "sum":
        yield f"torch.nn.utils.clip_grad_norm_(params.values(), {made.numbers['max_norm'] * every!r})"
    yield _GRADIENTS
    yield f"for g in gradients: g.div_({every})"
    yield from _clipping(made)


def _clipping(made: Made) -> Iterator[str]:
    rule, c = made.rule, made.numbers
    if rule.clip == "norm":
        yield f"torch.nn.utils.clip_grad_norm_(params.values(), {c['max_norm']!r})"
    if rule.clip == "exact":
        if made.run.every == 1:
            yield _GRADIENTS
        yield "norm = torch.nn.utils.get_total_norm(gradients)"
        yield f"for g in gradients: g.mul_(min(1.0, {c['max_norm']!r} / max(float(norm), {NOTHING!r})))"
    if rule.clip == "value":
        yield f"torch.nn.utils.clip_grad_value_(params.values(), {c['clip_value']!r})"
