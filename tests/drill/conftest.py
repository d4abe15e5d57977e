import pytest

from parity.drill import subject_of


@pytest.fixture(scope="session")
def subject(small):
    """All faults, on random images: nothing compiles."""
    return subject_of(dataset=small)
