"""`parity run`: two programs trained side by side, chunk by chunk, and judged. Start reading at lockstep.py."""
