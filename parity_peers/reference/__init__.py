"""What could be had: a training step of this CNN for one CPU core, every loop and every gradient by hand, in Numba.

Start reading at step.py; layers.py has the layers, simd.py the vectors that they are written in.
"""

from parity_peers.reference.implementation import Reference

__all__ = ["Reference", "impl"]

impl = Reference()
