"""How fast programs train the CNN: judged, then timed in turns, beside what the machine can do.

Nothing is imported here: a contestant's process should hold little else than the contestant.
"""
