"""Recorded runs of a small linear model, by whatever optimizer the test brings."""

import numpy as np

STEPS = 24


def problem(dtype="float64", seed=0):
    """Initial parameters, and the gradients of a mean of squares on a batch that each step draws."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(100, 20)), rng.normal(size=(100, 3))
    start = {"weight": rng.normal(size=(20, 3)).astype(dtype), "bias": rng.normal(size=3).astype(dtype)}

    def gradients(parameters):
        rows = rng.integers(0, 100, 8)
        error = x[rows] @ parameters["weight"].astype(np.float64) + parameters["bias"] - y[rows]
        return {"weight": (x[rows].T @ error / 8).astype(dtype), "bias": error.mean(axis=0).astype(dtype)}

    return start, gradients


def recorded(step, dtype="float64", steps=STEPS, seed=0):
    """(steps + 1) parameters and (steps) gradients; `step` is parameters, gradients -> parameters."""
    state, gradients = problem(dtype, seed)
    states, grads = [state], []
    for _ in range(steps):
        grads.append(gradients(states[-1]))
        states.append({name: np.array(value) for name, value in step(states[-1], grads[-1]).items()})
    return states, grads


def torch_step(make, dtype="float64", schedule=None, before=None):
    """Steps of a torch optimizer that `make` builds from a dictionary of parameters."""
    import torch

    start, _ = problem(dtype)
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    optimizer = make(params)
    scheduler = schedule(optimizer) if schedule else None

    def step(_, gradients):
        for name, value in gradients.items():
            params[name].grad = torch.tensor(value)
        if before:
            before(params)
        optimizer.step()
        if scheduler:
            scheduler.step()
        return {name: p.detach().numpy().copy() for name, p in params.items()}

    return step


def optax_step(transformation, dtype="float64"):
    """Steps of an optax transformation, in float64 too."""
    import jax
    import jax.numpy as jnp
    import optax

    start, _ = problem(dtype)
    with jax.enable_x64(dtype == "float64"):
        state = transformation.init({name: jnp.asarray(value) for name, value in start.items()})

    def step(parameters, gradients):
        nonlocal state
        with jax.enable_x64(dtype == "float64"):
            params = {name: jnp.asarray(value) for name, value in parameters.items()}
            grads = {name: jnp.asarray(value) for name, value in gradients.items()}
            updates, state = transformation.update(grads, state, params)
            return {name: np.asarray(value) for name, value in optax.apply_updates(params, updates).items()}

    return step
