"""`python -m parity.measurements`."""

from parity.measurements.calibration import main

if __name__ == "__main__":
    main()
