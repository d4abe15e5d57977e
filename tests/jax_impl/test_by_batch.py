"""Which batches leave their products to YNNPACK, and that it changes what is called and nothing that is computed."""

import numpy as np
import pytest
from jaxlib import version

import jax_impl
from jax_impl.by_batch import YNNPACK, options_without_ynnpack
from jax_impl.device import TRIED_WITH, exact
from jax_impl.observe import observed_step
from jax_impl.train import train_steps
from parity.contract import SGD, initial_weights

PLAN = np.arange(64, dtype=np.int32).reshape(4, 16)


@pytest.fixture
def placed(small):
    state = jax_impl.impl.start(initial_weights(0), SGD(lr=0.01), dtype="float32", device="cpu")
    return state, jax_impl.impl.place(state, small.train_images, small.train_labels)


def compiled(program, state, data):
    arrays = (state.carry, state.table, data.images, data.labels)
    with exact("float32", state.device):
        plan = () if program in (observed_step.small, observed_step.larger) else (PLAN,)
        if not plan:
            arrays = (*arrays[:2], data.images[:16], data.labels[:16])
        lowered = program.lower(*arrays, *plan, rates=None, sgd=state.sgd, formulation=state.formulation)
        return lowered.compile().as_text()


@pytest.mark.skipif(version.__version__ not in TRIED_WITH, reason=f"XLA's flag was tried with jaxlib {TRIED_WITH}")
@pytest.mark.parametrize("programs", [train_steps, observed_step], ids=["run", "observe"])
def test_larger_batches_are_compiled_without_it(programs, placed):
    assert "ynn_fusion" in compiled(programs.small, *placed)
    assert "ynn_fusion" not in compiled(programs.larger, *placed)


@pytest.mark.parametrize("programs", [train_steps, observed_step], ids=["run", "observe"])
def test_the_size_of_the_batch_chooses_on_the_cpu(programs):
    assert programs(1, "cpu") is programs(4, "cpu") is programs.small
    assert programs(5, "cpu") is programs(128, "cpu") is programs.larger
    assert programs(128, "gpu") is programs.small


def test_what_is_called_is_what_was_chosen(placed):
    state, data = placed
    sizes = {name: (program._cache_size()) for name, program in everything().items()}
    jax_impl.impl.run(state, data, PLAN[:, :11])
    jax_impl.impl.observe(state, data, PLAN[0, :11])
    jax_impl.impl.run(state, data, PLAN[:, :3])
    grown = {name: program._cache_size() - sizes[name] for name, program in everything().items()}
    assert grown == {"run, small": 1, "run, larger": 1, "observe, small": 0, "observe, larger": 1}


def everything():
    pairs = {"run": train_steps, "observe": observed_step}
    return {f"{name}, {size}": getattr(pair, size) for name, pair in pairs.items() for size in ("small", "larger")}


def test_options_are_set_where_they_were_tried_and_the_user_is_silent():
    assert options_without_ynnpack("--xla_dump_to=x", release="0.10.2") == {YNNPACK: ""}
    assert options_without_ynnpack("", release="0.11.2") == {}
    assert options_without_ynnpack(f"--{YNNPACK}=LIBRARY_FUSION_TYPE_DOT", release="0.10.2") == {}
