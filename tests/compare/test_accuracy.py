import numpy as np

from parity.compare import accuracy, accuracy_per_class, agreement, predictions


def test_predictions_take_the_first_of_equals():
    assert predictions(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])).tolist() == [1, 0]


def test_accuracies():
    labels = np.array([0, 0, 1, 3])
    predicted = np.array([0, 1, 1, 0])
    assert accuracy(predicted, labels) == 0.5
    assert accuracy_per_class(predicted, labels) == (0.5, 1.0, None, 0.0, *[None] * 6)
    assert agreement(predicted, np.array([0, 1, 0, 0])) == 0.75
