"""Small NumPy programs in pairs: the same function, with other names, layouts and groupings on the second side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from parity.contract import SGD, InputError, StepTrace, Stream
from tests.matching import tape as t

LR, MU = 0.05, 0.9


@dataclass(frozen=True)
class State:
    weights: dict
    momentum: dict


@dataclass(frozen=True)
class NumpyProgram:
    """A self-contained implementation.

    `model(weights, inputs, train)` takes and returns nodes: outputs, and new values of running statistics. The loss is
    the mean square of outputs minus targets, the last of the arrays.
    """

    initial: dict
    arrays: tuple
    model: Callable
    buffers: tuple = ()
    statistics_rate: float = 0.1
    calls: list = field(default_factory=list)

    def example(self):
        return {k: v.copy() for k, v in self.initial.items()}, self.arrays

    def devices(self):
        return ("cpu",)

    def start(self, weights, sgd, *, dtype, device):
        if sgd != SGD():
            raise InputError("sgd", sgd, "this program has its own optimizer", "leave it out")
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in self.initial.items()}:
            raise InputError("weights", "given", "not this program's", "give its own")
        assert device == "cpu"
        weights = {k: np.array(weights[k], dtype) for k in self.initial}
        return State(weights, {f"{k}{s}": np.zeros_like(weights[k]) for k in self._trained for s in ("", ":2")})

    @property
    def _trained(self):
        return [name for name in self.initial if name not in self.buffers]

    def restore(self, state, weights, momentum):
        return replace(state, weights={k: weights[k].copy() for k in self.initial}, momentum=dict(momentum))

    def describe(self, state):
        return "numpy"

    def place(self, state, *arrays):
        return arrays

    def _forward(self, state, inputs, train):
        nodes = {k: t.Node(v, name=k, weight=True) for k, v in state.weights.items()}
        outputs, statistics = self.model(nodes, [t.Node(x) for x in inputs[:-1]], train)
        difference = outputs - t.Node(inputs[-1])
        loss = t.mean(t.power(difference, 2), tuple(range(difference.value.ndim)), name="loss_value")
        return nodes, outputs, statistics, loss

    def observe(self, state, data, rows):
        self.calls.append("observe")
        inputs = [array[rows] for array in data]
        nodes, outputs, statistics, loss = self._forward(state, inputs, train=True)
        found = t.gradients(loss)
        zero = {k: np.zeros_like(v) for k, v in state.weights.items()}
        gradients = {k: found.get(nodes[k].number, zero[k]) for k in self._trained}
        momentum, after = {}, dict(state.weights)
        for k, g in gradients.items():
            momentum[k] = MU * state.momentum.get(k, zero[k]) + g
            momentum[f"{k}:2"] = MU * state.momentum.get(f"{k}:2", zero[k]) + g**2
            after[k] = state.weights[k] - LR * momentum[k]
        for k, value in statistics.items():
            after[k] = (1 - self.statistics_rate) * state.weights[k] + self.statistics_rate * value
        activations, parents = t.captured(loss)
        trace = StepTrace(
            batch={str(i): x.copy() for i, x in enumerate(inputs)},
            weights=state.weights,
            activations=activations,
            logits={"logits": outputs.value},
            loss={"loss": loss.value.reshape(())},
            gradients=gradients,
            momentum=momentum,
            parameters=after,
            parents=parents,
        )
        return State(after, momentum), trace

    def run(self, state, data, plan):
        losses = []
        for rows in plan:
            state, trace = self.observe(state, data, rows)
            losses.append(trace.loss["loss"])
        return state, np.array(losses)

    def logits(self, state, data):
        self.calls.append("logits")
        return self._forward(state, data, train=False)[1].value

    def weights(self, state):
        return {k: v.copy() for k, v in state.weights.items()}

    def momentum(self, state):
        return {k: v.copy() for k, v in state.momentum.items()}


def draw(seed, *shape):
    return (2 * Stream(seed, 77).uniform(int(np.prod(shape))) - 1).reshape(shape)


def tensors(**shapes):
    """Random tensors; double underscores in names become dots."""
    return {
        name.replace("__", "."): draw(i, *shape) / np.sqrt(max(1, np.prod(shape[1:])))
        for i, (name, shape) in enumerate(shapes.items(), start=1)
    }


def linear(x, weight, bias=None, name=None, names=(None, None)):
    """(N, in) by (out, in): fused under one name, or product and sum under two."""
    product = t.einsum("ni,oi->no", x, weight, name=names[0] if bias is not None else name or names[0])
    return product if bias is None else t.add(product, bias, name=name or names[1])


# --- an MLP: transposed and renamed on the second side ---------------------------------------------------------------


def mlp_a(sizes=(5, 7, 6, 3)):
    def model(w, inputs, train):
        (x,) = inputs
        for i in range(1, len(sizes)):
            x = linear(x, w[f"fc{i}.weight"], w[f"fc{i}.bias"], name=f"linear_{i}")
            x = t.tanh(x, name=f"tanh_{i}") if i < len(sizes) - 1 else x
        return x, {}

    shapes = {}
    for i in range(1, len(sizes)):
        shapes |= {f"fc{i}__weight": (sizes[i], sizes[i - 1]), f"fc{i}__bias": (sizes[i],)}
    return NumpyProgram(tensors(**shapes), (draw(90, 12, sizes[0]), draw(91, 12, sizes[-1])), model)


def mlp_b(sizes=(5, 7, 6, 3), *, rename=None, forget_bias=None, scale=None):
    """`rename` gives a tensor's name; `forget_bias` and `scale` plant a fault in one layer."""
    rename = rename or (lambda layer, leaf: f"params/Dense_{layer - 1}/{leaf}")

    def model(w, inputs, train):
        (x,) = inputs
        for i in range(1, len(sizes)):
            x = t.einsum("ni,io->no", x, w[rename(i, "kernel")], name=f"dot_general_{i}")
            bias = w[rename(i, "bias")]
            if i == forget_bias:
                bias = bias * 0.5
            row = t.reshape(bias, (1, -1), name=f"broadcast_{i}")
            x = t.add(x, row, name=f"add_{i}")
            if i == scale:
                x = t.mul(x, 1.001, name=f"mul_{i}")
            x = t.tanh(x, name=f"tanh{i}") if i < len(sizes) - 1 else x
        return x, {}

    weights = {}
    for i in range(1, len(sizes)):
        kernel = draw(50 + i, sizes[i - 1], sizes[i])
        weights |= {rename(i, "bias"): draw(70 + i, sizes[i]), rename(i, "kernel"): kernel}
    return NumpyProgram(weights, (draw(90, 12, sizes[0]), draw(91, 12, sizes[-1])), model)


# --- a convolution, flattened: NCHW and NHWC -------------------------------------------------------------------------


def conv_a():
    def model(w, inputs, train):
        x = t.windows(inputs[0], 3, (2, 3))
        x = t.einsum("nchwij,ocij->nohw", x, w["conv.weight"])
        x = t.add(x, t.reshape(w["conv.bias"], (-1, 1, 1)), name="conv")
        x = t.relu(x, name="relu")
        x = t.reshape(x, (len(x.value), -1), name="flatten")
        return linear(x, w["fc.weight"], w["fc.bias"], name="addmm"), {}

    # 2 channels of 6 x 7, 3 x 3 kernels, 4 feature maps of 4 x 5
    weights = tensors(conv__weight=(4, 2, 3, 3), conv__bias=(4,), fc__weight=(3, 80), fc__bias=(3,))
    return NumpyProgram(weights, (draw(92, 9, 2, 6, 7), draw(93, 9, 3)), model)


def conv_b(*, fault=None):
    def model(w, inputs, train):
        x = t.windows(inputs[0], 3, (1, 2))
        kernel = w["Conv_0/kernel"]
        x = t.einsum("nhwcij,ijco->nhwo", x, kernel, name="conv_general")
        x = t.add(x, w["Conv_0/bias"], name="add.1")
        x = t.tanh(x, name="tanh") if fault == "tanh" else t.relu(x, name="max")
        x = t.reshape(x, (len(x.value), -1), name="reshape")
        x = t.einsum("ni,io->no", x, w["Dense_0/kernel"], name="dot")
        return t.add(x, w["Dense_0/bias"], name="add.2"), {}

    shapes = {
        "Conv_0/bias": (4,),
        "Conv_0/kernel": (3, 3, 2, 4),
        "Dense_0/bias": (3,),
        "Dense_0/kernel": (80, 3),
    }
    arrays = (np.ascontiguousarray(draw(92, 9, 2, 6, 7).transpose(0, 2, 3, 1)), draw(93, 9, 3))
    return NumpyProgram(tensors(**shapes), arrays, model)


# --- attention: several square matrices of equal shape ---------------------------------------------------------------

EMBED, HEADS, DEPTH, TOKENS = 6, 2, 3, 4


def _heads(x, name=None, interleaved=False):
    n = len(x.value)
    if interleaved:  # a token's numbers are sorted by depth, then by head
        return t.transpose(t.reshape(x, (n, TOKENS, DEPTH, HEADS)), (0, 3, 1, 2), name=name)
    return t.transpose(t.reshape(x, (n, TOKENS, HEADS, DEPTH)), (0, 2, 1, 3), name=name)


def _mask():
    return np.where(np.tril(np.ones((TOKENS, TOKENS))) > 0, 0.0, -1e9)


def _attend(qkv, names, scale=DEPTH**-0.5, interleaved=False):
    q, k, v = qkv
    scores = t.mul(t.einsum("nhqd,nhkd->nhqk", q, k, name=names[0]), scale, name=names[1])
    scores = t.add(scores, _mask(), name=names[2])
    powers = t.exp(scores)
    weights = t.mul(powers, t.power(t.total(powers, (3,)), -1.0), name=names[3])
    mixed = t.einsum("nhqk,nhkd->nhqd", weights, v, name=names[4])
    order = (0, 2, 3, 1) if interleaved else (0, 2, 1, 3)
    return t.reshape(t.transpose(mixed, order), (len(q.value), TOKENS, EMBED), name=names[5])


def attention_a(*, merged=False, names=("q_proj", "k_proj", "v_proj"), interleaved=False, wide=False):
    """`wide` adds a layer three times as wide and one back, so that its weights are as large as the merged ones."""

    def model(w, inputs, train):
        (x,) = inputs
        if merged:
            weights = [t.piece(w["in_proj_weight"], EMBED * i, EMBED * (i + 1)) for i in range(3)]
            biases = [t.piece(w["in_proj_bias"], EMBED * i, EMBED * (i + 1)) for i in range(3)]
        else:
            weights, biases = ([w[f"{name}.{leaf}"] for name in names] for leaf in ("weight", "bias"))
        q, k, v = (
            _heads(t.add(t.einsum("nti,oi->nto", x, m), b, name=f"linear_{i}"), interleaved=interleaved)
            for i, (m, b) in enumerate(zip(weights, biases, strict=True))
        )
        x = _attend((q, k, v), ("matmul", "div", "masked", "softmax", "matmul_1", "view"), interleaved=interleaved)
        x = t.add(t.einsum("nti,oi->nto", x, w["out_proj.weight"]), w["out_proj.bias"], name="linear_3")
        for i, layer in enumerate(("lin1", "lin2") if wide else (), start=4):
            x = t.tanh(x, name=f"tanh_{i}")
            x = t.add(t.einsum("nti,oi->nto", x, w[f"{layer}.weight"]), w[f"{layer}.bias"], name=f"linear_{i}")
        return x, {}

    if merged:
        shapes = {"in_proj_weight": (3 * EMBED, EMBED), "in_proj_bias": (3 * EMBED,)}
    else:
        shapes = {}
        for name in names:
            shapes |= {f"{name}__weight": (EMBED, EMBED), f"{name}__bias": (EMBED,)}
    shapes |= {"out_proj__weight": (EMBED, EMBED), "out_proj__bias": (EMBED,)}
    if wide:
        layers = {"lin1__weight": (3 * EMBED, EMBED), "lin1__bias": (3 * EMBED,)}
        shapes = layers | {"lin2__weight": (EMBED, 3 * EMBED), "lin2__bias": (EMBED,)} | shapes
    return NumpyProgram(tensors(**shapes), (draw(94, 8, TOKENS, EMBED), draw(95, 8, TOKENS, EMBED)), model)


def attention_b(
    *, heads_in_kernel=True, names=("query", "key", "value", "out"), scale=DEPTH**-0.5, packed=False, wide=()
):
    """`packed` keeps queries, keys and values in one kernel (E, 3, H, D); `wide` names two more layers, as in A."""
    inner = (HEADS, DEPTH) if heads_in_kernel else (EMBED,)

    def model(w, inputs, train):
        (x,) = inputs
        found = []
        for i, name in enumerate(names[:3]):
            if packed:
                whole = t.transpose(t.reshape(w["qkv/kernel"], (EMBED, 3, EMBED)), (1, 0, 2))
                kernel = t.reshape(t.piece(whole, i, i + 1), (EMBED, EMBED))
                bias = t.reshape(t.piece(w["qkv/bias"], i, i + 1), (EMBED,))
            else:
                kernel, bias = t.reshape(w[f"{name}/kernel"], (EMBED, EMBED)), t.reshape(w[f"{name}/bias"], (EMBED,))
            product = t.einsum("nti,io->nto", x, kernel, name=f"dot_{i}")
            found.append(_heads(t.add(product, bias, name=f"add_{i}"), name=f"split_{i}"))
        x = _attend(found, ("qk", "scaled", "where", "probabilities", "mixed", "joined"), scale=scale)
        out = t.reshape(w[f"{names[3]}/kernel"], (EMBED, EMBED))
        x = t.einsum("nti,io->nto", x, out, name="dot_3")
        x = t.add(x, w[f"{names[3]}/bias"], name="add_3")
        for layer in wide:
            x = t.einsum("nti,io->nto", t.tanh(x), w[f"{layer}/kernel"])
            x = t.add(x, w[f"{layer}/bias"], name=f"sum_{layer}")
        return x, {}

    shapes = {f"{names[3]}/bias": (EMBED,), f"{names[3]}/kernel": (*inner, EMBED)}
    for name in sorted(names[:3]):
        shapes |= {f"{name}/bias": inner, f"{name}/kernel": (EMBED, *inner)}
    if packed:
        shapes = {f"{names[3]}/bias": (EMBED,), f"{names[3]}/kernel": (EMBED, EMBED)}
        shapes |= {"qkv/bias": (3, HEADS, DEPTH), "qkv/kernel": (EMBED, 3, HEADS, DEPTH)}
    if wide:
        shapes |= {f"{wide[0]}/bias": (3 * EMBED,), f"{wide[0]}/kernel": (EMBED, 3 * EMBED)}
        shapes |= {f"{wide[1]}/bias": (EMBED,), f"{wide[1]}/kernel": (3 * EMBED, EMBED)}
    return NumpyProgram(tensors(**shapes), (draw(94, 8, TOKENS, EMBED), draw(95, 8, TOKENS, EMBED)), model)


# --- batch normalisation: four vectors of equal shape a layer, two that training does not read -----------------------


def _normalised(x, vectors, train, name, inner=(None,) * 4):
    scale, bias, mean, var = vectors
    if train:
        batch_mean = t.mean(x, (0,), name=inner[0])
        centred = t.add(x, t.mul(batch_mean, -1.0), name=inner[1])
        batch_var = t.mean(t.power(centred, 2), (0,), name=inner[2])
    else:
        batch_mean, batch_var = mean, var
        centred = t.add(x, t.mul(mean, -1.0))
    normal = t.mul(centred, t.power(t.add(batch_var, 1e-5), -0.5), name=inner[3])
    y = t.add(t.mul(normal, scale), bias, name=name)
    return y, batch_mean.value.reshape(-1), batch_var.value.reshape(-1)


def norm_a(*, copied=False):
    """Two hidden layers of equal width, a bias before each normalisation that it takes out again.

    `copied` puts the mean into both running statistics.
    """

    def model(w, inputs, train):
        (x,) = inputs
        statistics = {}
        for i in (1, 2):
            x = linear(x, w[f"fc{i}.weight"], w[f"fc{i}.bias"], name=f"addmm_{i}")
            bn = [w[f"bn{i}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var")]
            x, mean, var = _normalised(x, bn, train, f"native_batch_norm_{i}")
            statistics |= {f"bn{i}.running_mean": mean, f"bn{i}.running_var": mean if copied else var}
            x = t.relu(x, name=f"relu_{i}")
        return linear(x, w["fc3.weight"], name="mm"), statistics

    shapes = {}
    for i, size in ((1, 4), (2, 6)):
        shapes |= {f"fc{i}__weight": (6, size), f"fc{i}__bias": (6,), f"bn{i}__weight": (6,), f"bn{i}__bias": (6,)}
        shapes |= {f"bn{i}__running_mean": (6,), f"bn{i}__running_var": (6,)}
    weights = tensors(**shapes, fc3__weight=(2, 6))
    for i in (1, 2):  # as they are when training begins
        weights[f"bn{i}.weight"] = weights[f"bn{i}.running_var"] = np.ones(6)
        weights[f"bn{i}.bias"] = weights[f"bn{i}.running_mean"] = weights[f"fc{i}.bias"] = np.zeros(6)
    buffers = tuple(name for name in weights if "running" in name)
    return NumpyProgram(weights, (draw(96, 10, 4), draw(97, 10, 2)), model, buffers)


def norm_b(
    *,
    biases=None,
    folded=False,
    leaves=("scale", "bias", "mean", "var"),
    rate=0.1,
    fault=None,
    train_as_eval=False,
    ignored=False,
):
    """`leaves` names the four vectors; `rate` is that of the running statistics, `ignored` in evaluation.

    `biases` names those before the normalisations; `folded` stores them as (2, 3) in column order.
    """
    scale, bias, mean_name, var_name = leaves
    biases = biases or ("params/Dense_0/bias", "params/Dense_1/bias")

    def model(w, inputs, train):
        (x,) = inputs
        statistics = {}
        for i in (0, 1):
            x = t.einsum("ni,io->no", x, w[f"params/Dense_{i}/kernel"], name=f"dot_{i}")
            row = t.reshape(t.transpose(w[biases[i]], (1, 0)), (6,)) if folded else w[biases[i]]
            x = t.add(x, row, name=f"add_{i}")
            parts = [w[f"params/BatchNorm_{i}/{leaf}"] for leaf in (scale, bias)]
            parts += [w[f"batch_stats/BatchNorm_{i}/{leaf}"] for leaf in (mean_name, var_name)]
            inner = tuple(f"BatchNorm_{i}/{step}" for step in ("mean", "sub", "var", "mul"))
            if fault == "leak" and i == 1:
                x = t.add(x, 0.01 * x.value.mean(axis=1, keepdims=True), name="leak")
            x, mean, var = _normalised(x, parts, (train or ignored) and not train_as_eval, f"BatchNorm_{i}/add", inner)
            statistics |= {f"batch_stats/BatchNorm_{i}/{mean_name}": mean}
            statistics |= {f"batch_stats/BatchNorm_{i}/{var_name}": var}
            x = t.relu(x, name=f"max_{i}")
        return t.einsum("ni,io->no", x, w["params/Dense_2/kernel"], name="dot_2"), statistics

    shapes = {}
    for i in (0, 1):
        shapes |= {f"batch_stats/BatchNorm_{i}/{leaf}": (6,) for leaf in sorted((mean_name, var_name))}
    for i in (0, 1):
        shapes |= {f"params/BatchNorm_{i}/{leaf}": (6,) for leaf in sorted((scale, bias))}
    for i, size in ((0, 4), (1, 6)):
        shapes |= {biases[i]: (2, 3) if folded else (6,), f"params/Dense_{i}/kernel": (size, 6)}
    shapes["params/Dense_2/kernel"] = (6, 2)
    weights = tensors(**shapes)
    weights |= {name: np.abs(value) + 0.5 for name, value in weights.items() if name.startswith("batch_stats")}
    buffers = tuple(name for name in weights if name.startswith("batch_stats"))
    return NumpyProgram(weights, (draw(96, 10, 4), draw(97, 10, 2)), model, buffers, rate)


def distinguishable(weights):
    """Weights among which no two are alike: those that training begins with may all be zeros."""
    return {name: value + 0.1 * (draw(200 + i, *value.shape) + 1.0) for i, (name, value) in enumerate(weights.items())}
