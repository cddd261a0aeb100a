"""A small plain model with each kind of conv that may read a channel; maps read off a model."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from yolo_slim.calibration import Calibration


def plain_model() -> nn.Module:
    """Every kind of conv that may read a channel: stride, dilation, 1x1, transposed, Linear."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU()),
        *(nn.Conv2d(8, 12, 3, stride=2, padding=2, dilation=2), nn.BatchNorm2d(12), nn.SiLU()),
        *(nn.Conv2d(12, 10, 1), nn.BatchNorm2d(10), nn.SiLU()),
        *(nn.ConvTranspose2d(10, 6, 2, stride=2), nn.SiLU()),
        *(nn.Conv2d(6, 9, (3, 1), stride=4, padding="valid"), nn.BatchNorm2d(9), nn.SiLU()),
        *(nn.Conv2d(9, 7, 3, padding="same", padding_mode="reflect"), nn.BatchNorm2d(7)),
        *(nn.Flatten(), nn.Linear(7 * 4 * 4, 5)),
    )
    model.image = (3, 16, 16)
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.double().eval()


def maps_read(model: nn.Module, names: list[str], calibration: Calibration) -> dict[str, Any]:
    """What modules read of all images, whole."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    model = deepcopy(model)
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: found[name].append(inputs[0].clone())
        )
    with torch.no_grad():
        for images, _ in calibration.batches:
            model(images)
    return {name: torch.cat(parts) for name, parts in found.items()}
