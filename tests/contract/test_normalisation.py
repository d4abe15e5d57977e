import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from parity.contract import normalisation_table
from parity.data import Loader

TORCHVISION = transforms.Compose(
    [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))],
)


def test_batches_equal_torchvisions_to_the_last_bit(small):
    images, _ = next(Loader(size=102, batch_size=4, seed=0).batches(small.train_images, small.train_labels, 0))
    rows = next(Loader(size=102, batch_size=4, seed=0).plans(0))[0]
    theirs = torch.stack([TORCHVISION(Image.fromarray(small.train_images[row])) for row in rows]).numpy()
    assert images.dtype == theirs.dtype == np.float32
    assert images.tobytes() == theirs.tobytes()


def test_every_pixel_value_equals_torchvisions():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    theirs = TORCHVISION(Image.fromarray(pixels)).numpy()
    ours = normalisation_table("float32")[pixels].transpose(2, 0, 1)
    assert np.ascontiguousarray(ours).tobytes() == theirs.tobytes()


def test_float64_is_computed_in_float64():
    table = normalisation_table("float64")
    assert table.dtype == np.float64
    assert np.abs(table - table.astype(np.float32)).max() > 1e-9
    assert (table[0], table[255]) == (-1, 1)
