"""What naming a cause costs: that every explanation of a check is timed, and that the bar can be missed."""

from parity.drill import CATALOGUE
from parity.measurements.explanation import EXPLANATION
from parity.measurements.part import Bench

KEYS = [fault.key for fault in CATALOGUE]


def trial(**changes):
    return {"key": "bgr", "side": "a", "explained": 1, "seconds": 1.0, "check": 3.0, "names": ["bgr"], **changes}


def test_the_explanation_of_a_check_is_timed(small):
    bench = Bench(dataset=small, partner="torch_impl:eager", device="cpu")
    found = EXPLANATION.measure(bench, 2 * KEYS.index("nesterov") + 1)
    assert (found["key"], found["side"], found["names"], found["explained"]) == ("nesterov", "b", ["nesterov"], 1)
    assert 0 < found["seconds"] < found["check"]


def test_the_bar_is_the_largest_of_all_that_were_explained():
    found = EXPLANATION.conclude([trial(), trial(seconds=2.0), trial(seconds=9.9, key="adam")])
    assert found.met
    assert (found.summary["median_seconds"], found.summary["slowest"]) == (2.0, "adam (a)")
    assert not EXPLANATION.conclude([trial(), trial(seconds=10.0)]).met
    assert not EXPLANATION.conclude([trial(), trial(explained=0, seconds=0.0)]).met
