import numpy as np
import pytest

from parity.compare import accuracy, predictions
from parity.contract import SGD, initial_weights
from parity.data import Loader, embedded_set
from parity.data.embedded import CLASSES


@pytest.fixture(scope="module")
def dataset():
    return embedded_set()


def test_the_set_is_the_same_bytes_everywhere(dataset):
    assert dataset.fingerprint() == "5eb6ed031386fbac54527d33200660eaee9b4c1089b495de14dabf8278e5c836"


def test_sizes_classes_and_origin(dataset):
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (10_000, 2_000)
    assert dataset.classes == CLASSES
    assert "not CIFAR-10" in dataset.origin
    assert set(np.bincount(dataset.train_labels)) <= set(range(900, 1100))


def test_no_image_is_drawn_twice(dataset):
    images = np.concatenate([dataset.train_images, dataset.test_images]).reshape(12_000, -1)
    assert len({image.tobytes() for image in images}) == 12_000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_neither_trivial_nor_hopeless_for_the_cnn(dataset, seed):
    """With the default settings: 55 to 90 % after 3 epochs."""
    import jax_impl  # slow to import

    loader = Loader(size=10_000, batch_size=4, seed=seed)
    side = jax_impl.impl
    state = side.start(initial_weights(seed), SGD(), dtype="float32", device="cpu")
    train = side.place(state, dataset.train_images, dataset.train_labels)
    for epoch in range(3):
        for plan in loader.plans(epoch):
            state, _ = side.run(state, train, plan)
    test = side.place(state, dataset.test_images, dataset.test_labels)
    reached = accuracy(predictions(side.logits(state, test)), dataset.test_labels)
    assert 0.55 <= reached <= 0.90
