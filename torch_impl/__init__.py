"""The CIFAR-10 CNN in PyTorch, trained by torch.optim.SGD; and `adapt`, for any other module.

Name it `torch_impl:eager`, `torch_impl:compiled` (torch.compile) or `torch_impl:fast` (gradients by hand, and CUDA
graphs on a GPU). `torch_impl` is the last: with nothing to compile, it is the fastest on a CPU whatever the number of
steps. On a GPU the three have not been timed against each other, and nothing has been measured: there the fast path is
some 80 kernels a step in a CUDA graph, and the compiled one fewer, launched one by one.
Start reading at model.py and train.py; the same file names in jax_impl hold the same things in JAX. The fast path is
read from windows.py over by_hand.py to program.py.
"""

from torch_impl.adapt import AdaptedModule, adapt
from torch_impl.fast_implementation import FastTorch
from torch_impl.implementation import TorchImplementation

__all__ = ["AdaptedModule", "FastTorch", "TorchImplementation", "adapt", "compiled", "eager", "fast", "impl"]

eager = TorchImplementation()
compiled = TorchImplementation(compiled=True)
fast = FastTorch()
impl = fast
