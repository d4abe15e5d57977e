"""The CIFAR-10 CNN in PyTorch, trained by torch.optim.SGD; and `adapt`, for any other module.

Name it `torch_impl` (chooses), `torch_impl:eager` or `torch_impl:compiled`. Start reading at model.py and train.py; the
same file names in jax_impl hold the same things in JAX.
"""

from torch_impl.adapt import AdaptedModule, adapt
from torch_impl.fast_implementation import FastTorch
from torch_impl.implementation import TorchImplementation

__all__ = ["AdaptedModule", "FastTorch", "TorchImplementation", "adapt", "compiled", "eager", "fast", "impl"]

eager = TorchImplementation(compiled=False)
compiled = TorchImplementation(compiled=True)
fast = FastTorch()
impl = fast
