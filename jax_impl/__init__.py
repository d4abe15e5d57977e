"""The CIFAR-10 CNN in JAX: flax.nnx, optax.sgd, one compiled scan; and `adapt`, for any other function.

Name it `jax_impl` (chooses), `jax_impl:plain` (XLA's convolutions; on a GPU with the pooling of pooling.py) or
`jax_impl:fast` (convolutions as products). No path has been measured on a GPU.
Start reading at model.py and train.py; the same file names in torch_impl hold the same things in PyTorch.
"""

from jax_impl.device import prepare_environment

prepare_environment()

from jax_impl.adapt import AdaptedFunction, adapt  # noqa: E402  the environment comes first
from jax_impl.convolutions import PLAIN  # noqa: E402
from jax_impl.implementation import JaxImplementation  # noqa: E402
from jax_impl.products import FAST  # noqa: E402

__all__ = ["AdaptedFunction", "JaxImplementation", "adapt", "fast", "impl", "plain"]

plain = JaxImplementation(formulation=PLAIN)
fast = JaxImplementation(formulation=FAST)
impl = JaxImplementation()
