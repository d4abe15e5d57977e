"""`python -m parity.bench`."""

from parity.bench.calibration import main

if __name__ == "__main__":
    main()
