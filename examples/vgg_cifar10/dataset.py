"""CIFAR-10, or handwritten digits where nothing can be downloaded: in memory, as uint8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from yolo_slim import InputError

DATASETS = ("cifar10", "digits")
PAD = 4  # px on each side, before a crop


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, 3, 32, 32) and labels int64 (n,)."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        train, test: its two parts.
        mean, std: of the three channels of the training images, in [0, 1].
        mirror: a mirrored image is of the same class.
    """

    train: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool


def load_data(name: str, folder: Path, download: bool = False) -> Data:
    """Load a data set.

    Args:
        name: one of DATASETS.
        folder: where CIFAR-10 lies: the one with cifar-10-batches-py in it.
        download: fetch CIFAR-10 if it is not there.

    Raises:
        InputError: it is not there, or damaged; scikit-learn is missing.
    """
    return _digits() if name == "digits" else _cifar10(folder, download)


def _cifar10(folder: Path, download: bool) -> Data:
    from torchvision.datasets import CIFAR10

    def split(train: bool) -> Split:
        try:
            found = CIFAR10(folder, train=train, download=download)
        except (RuntimeError, OSError, EOFError) as error:  # "not found or corrupted", no network
            text = "CIFAR-10 (fetch it with --download, or try --dataset digits)"
            raise InputError(f"--data {folder}", f"{str(error).splitlines()[0]}", text) from error
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        return Split(images, torch.tensor(found.targets))

    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the 50,000
    return Data(split(True), split(False), mean, std, mirror=True)


def _digits() -> Data:
    """1797 digits of 8 x 8 px (UCI, optical recognition of handwritten digits), scaled to 32 x 32.

    Half of each class is for the test, the same ones whatever the seed: with fewer, a single image
    decides between two good networks.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        got, expected = "scikit-learn is missing", "pip install scikit-learn"
        raise InputError("--dataset digits", got, expected) from error
    found = load_digits()
    small = torch.from_numpy(found.images).float()[:, None] / 16
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    images = (large * 255).round().byte().expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(found.target.astype(np.int64))
    parts = train_test_split(np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=0)
    train, test = (Split(images[part], labels[part]) for part in parts)
    pixels = train.images[:, 0].float() / 255
    mean, std = (pixels.mean().item(),) * 3, (pixels.std().item(),) * 3
    return Data(train, test, mean, std, mirror=False)


def batches(
    data: Data, split: Split, size: int, generator: torch.Generator | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Normalised images float32 (n, 3, 32, 32) and labels (n,).

    Args:
        data: gives mean and deviation.
        split: of it.
        size: images a batch, at most; all have as many but for one, as a BatchNorm that is trained
            can make little of a last batch of two.
        generator: draws the order and the augmentation; None: neither, as for a test.
    """
    count = len(split.labels)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std))
    for part in order.tensor_split(-(-count // size)):
        images = split.images[part]
        if generator is not None:
            images = augment(images, generator, data.mirror)
        yield (images.float() / 255 - mean) / std, split.labels[part]


def augment(images: torch.Tensor, generator: torch.Generator, mirror: bool) -> torch.Tensor:
    """A random crop of each image within a black border of PAD px; half of them mirrored.

    Args:
        images: (n, c, h, w).
        generator: of what is drawn.
        mirror: whether to mirror.
    """
    n, c, h, w = images.shape
    padded = F.pad(images, [PAD] * 4)
    top, left = torch.randint(2 * PAD + 1, (2, n, 1), generator=generator)
    rows, columns = top + torch.arange(h), left + torch.arange(w)
    if mirror:
        flip = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(flip, columns.flip(1), columns)
    which, channel = torch.arange(n).view(-1, 1, 1, 1), torch.arange(c).view(-1, 1, 1)
    return padded[which, channel, rows[:, None, :, None], columns[:, None, None, :]]
