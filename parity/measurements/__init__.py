"""`python -m parity.measurements calibration`: how far can the judgement be trusted?

Each part (see `calibration.PARTS`) is a series of trials with numbers of their own, kept in one JSON file as they are
measured: a part that was stopped goes on where it stood. Start reading at part.py and calibration.py.
"""
