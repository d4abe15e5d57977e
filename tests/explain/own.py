"""Programs of one's own for the tests of what is named of them: a torch net beside a flax port of it."""

import jax
import optax
import torch
from torch import nn

import jax_impl
import torch_impl
from parity.checking import check
from parity.prepare import prepare
from parity.settings import Settings, Side


def torch_side(net, data):
    return torch_impl.adapt(net, nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), lr=0.1), data=data)


def jax_side(net, data):
    """Of a flax.linen module."""
    params = net.init(jax.random.key(0), data[0][:1])["params"]

    def loss(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax_impl.adapt(lambda params, x: net.apply({"params": params}, x), params, loss, optax.sgd(0.1), data=data)


def checked(*implementations, names="ab"):
    """The check of two."""
    sides = [Side(name=name, implementation=each) for name, each in zip(names, implementations, strict=True)]
    prepared = prepare(*sides, settings=Settings())
    return check(prepared.sides, prepared.problem, Settings(device="cpu"))
