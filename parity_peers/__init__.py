"""The same training program as others write it: the contestants that `parity bench` measures the built-in ones by.

A peer is an object with a part of `parity.contract.Implementation`: `devices`, `start`, `describe`, `place`, `run`,
`weights`, and `peak_memory() -> int | None`, the most bytes of a device's memory that its framework has taken so far,
where it counts them. It trains the CNN by plain momentum SGD, computes what its framework computes by default (on CUDA
that may be TF32, which the environment variables NVIDIA_TF32_OVERRIDE=0 and JAX_DEFAULT_MATMUL_PRECISION=highest
forbid; started in "tf32", those in torch and flax.nnx allow it everywhere), and prints nothing. Nor does it ask for
deterministic kernels, as the project's implementations do: with that flag of XLA's, flax.nnx and Keras on JAX could not
be compiled on a GPU at all, for their max-pooling. So there a peer has the wider choice of kernels, and its row says
so. What belongs to an epoch in such a program (a trainer's set-up, worker processes) belongs
to a call of `run`, so a benchmark's calls should be long.

| name | what |
| --- | --- |
| `parity_peers.tutorial`, `:without_workers` | the PyTorch tutorial's loop: torchvision, DataLoader, `item()` |
| `parity_peers.eager` | the same model and optimizer on batches in memory |
| `parity_peers.lightning_loop` | Lightning's Trainer |
| `parity_peers.keras_fit:on_torch`, `:on_jax` | Keras 3, `model.fit` |
| `parity_peers.nnx_loop` | the training loop of flax.nnx's documentation |
| `parity_peers.reference` | what the hardware can do: a step in explicit SIMD, compiled by Numba |
"""
