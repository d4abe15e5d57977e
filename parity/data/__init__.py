"""Images, index plans and weights files: everything that a run reads, the same for all sides. NumPy only."""

from parity.data.cifar10 import default_data_dir, fetch_cifar10, has_cifar10, load_cifar10
from parity.data.dataset import CIFAR10_CLASSES, IMAGE_SHAPE, Dataset
from parity.data.embedded import embedded_set
from parity.data.files import check_folder, check_writable, replacing
from parity.data.loader import Loader
from parity.data.npz import load_npz
from parity.data.source import load_data
from parity.data.weights import fingerprint, load_weights, save_weights

__all__ = [
    "CIFAR10_CLASSES",
    "IMAGE_SHAPE",
    "Dataset",
    "Loader",
    "check_folder",
    "check_writable",
    "default_data_dir",
    "embedded_set",
    "fetch_cifar10",
    "fingerprint",
    "has_cifar10",
    "load_cifar10",
    "load_data",
    "load_npz",
    "load_weights",
    "replacing",
    "save_weights",
]
