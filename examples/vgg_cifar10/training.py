"""A plain training loop, with yolo_slim's penalty on its optimizer where one is asked for.

SGD as in network slimming (Liu et al. 2017, section 4.2): momentum 0.9, weight decay 1e-4, the
learning rate divided by 10 at half and at three quarters of the epochs. The penalty is the
paper's: an L1 on gamma alone, of one strength from the first to the last step.
"""

from __future__ import annotations

import torch
from dataset import Data, batches
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from yolo_slim import SparsityPenalty
from yolo_slim.errors import CheckFailed

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4


def train_(
    model: nn.Module,
    data: Data,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int = 0,
    sr: float = 0.0,
) -> float:
    """Train a model in place, on the device that it is on.

    Args:
        model: images (n, 3, 32, 32) to logits (n, classes).
        data: to train and to test on.
        epochs, lr, batch_size: of SGD.
        seed: of the order of the images and of their augmentation.
        sr: strength of the L1 on gamma, per optimizer step.

    Returns:
        Accuracy on the test images after the last epoch, a share; no epoch is picked by it.

    Raises:
        CheckFailed: the loss is not finite any more.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    milestones = [epochs // 2, epochs * 3 // 4]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    SparsityPenalty(model, sr, bias_sr=0).attach(optimizer)
    right = 0.0
    steps = epochs * -(-len(data.train.labels) // batch_size)
    with tqdm(total=steps, desc="train", unit="batch") as bar:
        for epoch in range(epochs):
            model.train()
            for images, labels in batches(data, data.train, batch_size, generator):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(images.to(device)), labels.to(device))
                loss.backward()
                optimizer.step()
                bar.update()
            if not torch.isfinite(loss):
                raise CheckFailed(f"epoch {epoch + 1}: the loss is {loss.item()}; a smaller --lr?")
            schedule.step()
            right = accuracy(model, data)
            bar.set_postfix(
                epoch=f"{epoch + 1}/{epochs}", loss=f"{loss.item():.3f}", test=f"{right:.2%}"
            )
    return right


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    """The share of the test images that a model names rightly; it is left in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    right = 0
    for images, labels in batches(data, data.test, 256):
        right += int((model(images.to(device)).argmax(1).cpu() == labels).sum())
    return right / len(data.test.labels)
