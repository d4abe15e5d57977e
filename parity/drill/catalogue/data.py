"""What reaches the model: normalisation, layout, order and labels of the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import AnyImplementation, StepTrace
from parity.drill.fault import ANY, ORACLE, Fault, Host
from parity.drill.feeding import Choice, Order, feed, reorder, replace_data
from parity.drill.operating import operate, scaled_pixels
from parity.drill.wrapped import Inapplicable, State, Wrapped
from parity.oracle import Operations, Oracle, layers
from parity.oracle.layers import Array, Labels
from parity.problem import Arrays

__all__ = ["DATA"]

CIFAR10_MEAN = np.array([0.4914, 0.4822, 0.4465])
CIFAR10_DEVIATION = np.array([0.2470, 0.2435, 0.2616])


def images_of(arrays: Arrays) -> NDArray[np.generic]:
    """The first array, if it holds images, as (N, H, W, C) whichever axis its channels are.

    Raises:
        Inapplicable: it does not.
    """
    images = arrays[0]
    if images.ndim != 4 or 3 not in (images.shape[1], images.shape[3]):
        raise Inapplicable("its data are not images of three channels")
    return images if images.shape[3] == 3 else np.moveaxis(images, 1, 3)


def with_images(arrays: Arrays, images: NDArray[np.generic]) -> Arrays:
    """The arrays with these images, (N, H, W, C), in place of the first."""
    last = arrays[0].shape[3] == 3
    return (np.ascontiguousarray(images if last else np.moveaxis(images, 3, 1)), *arrays[1:])


def reversed_channels(arrays: Arrays) -> Arrays:
    """BGR for RGB."""
    return with_images(arrays, images_of(arrays)[..., ::-1])


def transposed(arrays: Arrays) -> Arrays:
    """Rows for columns."""
    images = images_of(arrays)
    if images.shape[1] != images.shape[2]:
        raise Inapplicable("its images are not square")
    return with_images(arrays, images.swapaxes(1, 2))


def planar(arrays: Arrays) -> Arrays:
    """(C, H, W) bytes read as (H, W, C): a reshape where a transpose is meant."""
    images = images_of(arrays)
    return with_images(arrays, images.transpose(0, 3, 1, 2).reshape(images.shape))


def labels_of(arrays: Arrays) -> NDArray[np.generic]:
    """The last array.

    Raises:
        Inapplicable: it is the only one.
    """
    if len(arrays) < 2:
        raise Inapplicable("its data have no labels or targets")
    return arrays[-1]


def rolled_labels(arrays: Arrays, step: int) -> Arrays:  # noqa: ARG001  as `Feeding` has it
    """Each example with the label of the one before it."""
    return (*arrays[:-1], np.roll(labels_of(arrays), 1, axis=0))


def next_class(arrays: Arrays) -> Arrays:
    """(y + 1) mod the number of classes that there are: counted from 1, the last one wrapped round."""
    labels = labels_of(arrays)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise Inapplicable("its labels are not class numbers")
    return (*arrays[:-1], (labels + 1) % (labels.max() + 1))


def one_hot_from_one() -> tuple[Any, Any]:
    """Cross entropy of one_hot(y - 1): a row of zeros for class 0, which has no loss then; others are off by one."""

    def chosen(labels: Labels) -> Array:
        return np.asarray(labels[:, np.newaxis] - 1 == np.arange(10), np.float64)

    def loss(logits: Array, labels: Labels) -> Array:
        log_p = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        return np.asarray(-(chosen(labels) * log_p).sum(axis=1).mean())

    def backward(logits: Array, labels: Labels) -> Array:
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        has_loss = (labels > 0)[:, np.newaxis]
        by_logits: Array = (p * has_loss - chosen(labels)) / len(labels)
        return by_logits

    return loss, backward


class LabelsLessOne(Wrapped):
    """Records the labels as the loss reads them: one less."""

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step."""
        after, trace = super().observe(state, data, rows)
        return after, replace(trace, batch={**trace.batch, "labels": np.asarray(trace.batch["labels"]) - 1})


def one_based(host: Host) -> AnyImplementation:  # noqa: ARG001  as `Mutation` has it
    """The oracle with one_hot(y - 1), which is what its batch shows."""
    loss, backward = one_hot_from_one()
    return LabelsLessOne(Oracle(operations=Operations(cross_entropy=loss, cross_entropy_backward=backward)))


def in_float32(images: layers.Pixels) -> Array:
    """(x / 255 - 0.5) / 0.5, rounded to float32 at each operation."""
    half = np.float32(0.5)
    x = (images.astype(np.float32) / np.float32(255) - half) / half
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(np.float64)


def _both(rows: NDArray[np.int32]) -> Choice:
    return rows, rows


def other_seed(order: Order, step: int) -> Choice:
    """The batches of a loader with another seed: the epoch's images in another order."""
    epoch, place = divmod(step, order.steps_per_epoch)
    turned = np.roll(np.concatenate(_epoch(order, epoch)), 1 + order.batch_size)
    return _both(turned[place * order.batch_size :][: len(order.batches[step])])


def _epoch(order: Order, epoch: int) -> list[NDArray[np.int32]]:
    first = epoch * order.steps_per_epoch
    return [np.asarray(batch) for batch in order.batches[first : first + order.steps_per_epoch]]


def batch_skipped(order: Order, step: int) -> Choice:
    """Each step sees the next one's batch; the last has none, and sees its own."""
    return _both(order.batches[min(step + 1, len(order.batches) - 1)])


def not_reshuffled(order: Order, step: int) -> Choice:
    """Every epoch sees the first one's batches."""
    return _both(order.batches[step % order.steps_per_epoch])


def last_batch_dropped(order: Order, step: int) -> Choice:
    """Where an epoch's last, partial batch is due, the next epoch begins."""
    full = [rows for rows in order.batches if len(rows) == order.batch_size]
    return _both(full[step] if step < len(full) else order.batches[step])


def buffer_reused(order: Order, step: int) -> Choice:
    """From the second step on, the images of half of the batch are the next step's already; the labels are right."""
    rows, following = order.batches[step], order.batches[(step + 1) % len(order.batches)]
    mixed = np.array(rows)
    half = min(len(rows), len(following)) // 2
    if step > 0:
        mixed[:half] = following[:half]
    return mixed, rows


def _pixels(key: str, title: str, scale: Array | float, shift: Array | float) -> Fault:
    plant = operate(normalise=scaled_pixels(scale, shift))
    return Fault(key=key, title=title, stage="batch", first=0, scope=ORACLE, plant=plant)


DATA = (
    _pixels("no-shift", "images are x / 255", 1 / 255, 0.0),
    _pixels("raw-pixels", "images are 0 to 255", 1.0, 0.0),
    _pixels(
        "other-normalisation",
        "images are normalised by CIFAR-10's own mean and deviation",
        1 / 255 / CIFAR10_DEVIATION,
        -CIFAR10_MEAN / CIFAR10_DEVIATION,
    ),
    _pixels("divided-by-256", "images are (x / 256 - 0.5) / 0.5", 2 / 256, -1.0),
    Fault(
        key="bgr",
        title="channels are blue, green, red",
        stage="batch",
        first=0,
        scope=ANY,
        plant=replace_data(reversed_channels),
    ),
    Fault(
        key="image-axes-swapped",
        title="rows and columns of the images are swapped",
        stage="batch",
        first=0,
        scope=ANY,
        plant=replace_data(transposed),
    ),
    Fault(
        key="planar-reshape",
        title="a reshape stands for the transpose of the images",
        stage="batch",
        first=0,
        scope=ANY,
        plant=replace_data(planar),
    ),
    Fault(
        key="other-order",
        title="the loader has another seed",
        stage="batch",
        first=0,
        scope=ANY,
        plant=reorder(other_seed),
    ),
    Fault(
        key="batch-skipped",
        title="the loader skips the first batch",
        stage="batch",
        first=0,
        scope=ANY,
        plant=reorder(batch_skipped),
        names=frozenset({"batch-skipped", "other-order"}),
    ),
    Fault(
        key="no-reshuffle",
        title="every epoch has the same order",
        stage="batch",
        first=3,  # the second epoch's first step
        scope=ANY,
        plant=reorder(not_reshuffled),
    ),
    Fault(
        key="last-batch-dropped",
        title="an epoch's last partial batch is dropped",
        stage="batch",
        first=2,  # the first epoch's partial batch
        scope=ANY,
        plant=reorder(last_batch_dropped),
    ),
    Fault(
        key="labels-rolled",
        title="each image has the label of the one before it in the batch",
        stage="batch",
        first=0,
        scope=ANY,
        plant=feed(rolled_labels),
    ),
    Fault(
        key="label-plus-one",
        title="labels are counted from 1, the last wrapped round",
        stage="batch",
        first=0,
        scope=ANY,
        plant=replace_data(next_class),
    ),
    Fault(
        key="one-based-label",
        title="labels are one_hot(y - 1)",
        stage="batch",
        first=0,
        scope=ORACLE,
        plant=one_based,
    ),
    Fault(
        key="float32-preprocessing",
        title="images are normalised in float32",
        stage="batch",
        first=0,
        scope=ORACLE,
        plant=operate(normalise=in_float32),
    ),
    Fault(
        key="buffer-reused",
        title="the loader overwrites a batch that is still in use",
        stage="batch",
        first=1,  # before, nothing has been loaded twice
        scope=ANY,
        plant=reorder(buffer_reused),
    ),
)
