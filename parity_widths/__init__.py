"""The CNN with k times as many channels in both convolutions, in torch and in JAX, for `parity bench --scaling`.

`parity_widths.torch_cnn:cnn_16` and `parity_widths.jax_cnn:cnn_16` are plain programs, made by `torch_impl.adapt` and
`jax_impl.adapt`, which compute the same thing from the same initial weights; any k will do. Nothing is imported here:
neither half sees the other's framework.
"""
