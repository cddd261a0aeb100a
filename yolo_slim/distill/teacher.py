"""A teacher in a training: what it sees, what it adds to the loss, and what is thrown away.

Nothing is added to the student: hooks on it stand only while a batch is trained on, and are gone
when it is validated, copied or saved. The optimizer trains the adapters in its last group, which in
the host's has no weight decay.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from yolo_slim.distill.asked import LAYOUT, asked
from yolo_slim.distill.loss import GAINS, PARTS, feature_part
from yolo_slim.errors import InputError
from yolo_slim.host.outputs import maps, output_parts


def check_teacher(
    teacher: nn.Module, student: nn.Module, where: str, *, classes: int | None = None
) -> None:
    """See that a teacher says what the student is to say.

    Args:
        teacher, student: detectors.
        where: what the error calls the teacher.
        classes: that the student will have; None: as it has.

    Raises:
        InputError: other classes, scales or anchors.
    """
    theirs, ours = teacher.model[-1], student.model[-1]
    for what, got, wanted in (
        ("head", type(theirs).__name__, type(ours).__name__.replace("Pruned", "")),
        ("classes", theirs.nc, classes or ours.nc),
        ("scales", theirs.nl, ours.nl),
        ("anchors a scale", theirs.na, ours.na),
    ):
        got = got.replace("Pruned", "") if isinstance(got, str) else got
        if got != wanted:
            raise InputError(where, f"{what}: {got}", f"{wanted}, as the student")
    if not torch.allclose(theirs.anchors.float().cpu(), ours.anchors.float().cpu(), rtol=1e-2):
        raise InputError(where, "other anchors than the student's", "the model that was cut")


class Teacher:
    """Looks on as a student is trained.

    Args:
        model: a detector; a fused copy of it, in eval mode and without gradients, is asked.
        student: what is trained.
        optimizer: takes the adapters into its last group.
        gains: what the parts are multiplied with.

    Attributes:
        adapters: a 1x1 conv a scale.
    """

    def __init__(
        self,
        model: nn.Module,
        student: nn.Module,
        optimizer: torch.optim.Optimizer,
        gains: dict[str, float] | None = None,
    ) -> None:
        device = next(student.parameters()).device
        self.model = asked(model, device)
        self.student, self.gains = student, dict(GAINS if gains is None else gains)
        heads = zip(student.model[-1].m, self.model.model[-1].m, strict=True)
        with torch.random.fork_rng(devices=[]):  # the training draws what it would have drawn
            torch.manual_seed(0)  # and each rank the same adapters
            self.adapters = nn.ModuleList(
                nn.Conv2d(ours.in_channels, theirs.in_channels, 1) for ours, theirs in heads
            ).to(device)
        group = optimizer.param_groups[-1]  # the host logs three: a fourth would break its csv
        group["params"] = [*group["params"], *self.adapters.parameters()]
        if dist.is_available() and dist.is_initialized():
            for parameter in self.adapters.parameters():
                parameter.register_hook(_mean_over_ranks)
        self.seen: dict[str, Any] = {}
        self.handles: list[Any] = []
        self.sums, self.count = dict.fromkeys(PARTS, 0.0), 0

    def attach(self) -> None:
        """Look at what the student is given, and at what its head reads."""
        self.detach()

        def image(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self.seen["images"] = inputs[0]

        def features(module: nn.Module, inputs: tuple[list[torch.Tensor]]) -> None:
            self.seen["features"] = list(inputs[0])  # the head writes into the list

        head = self.student.model[-1]
        self.handles = [
            self.student.register_forward_pre_hook(image),
            head.register_forward_pre_hook(features),
        ]

    def detach(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()
        self.handles, self.seen = [], {}

    def loss(self, outputs: Any) -> torch.Tensor:
        """What the batch that the student has just run adds to its loss: a scalar, an image.

        Args:
            outputs: raw maps of the student; of a segmentation model with its masks.
        """
        images, ours = self.seen["images"], self.seen["features"]
        theirs: list[torch.Tensor] = []
        head = self.model.model[-1]
        handle = head.register_forward_pre_hook(lambda _, inputs: theirs.extend(inputs[0]))
        try:
            with torch.no_grad():
                wanted = maps(self.model(images.contiguous(memory_format=LAYOUT)))
        finally:
            handle.remove()
        parts = output_parts(maps(outputs), wanted, head.nc)
        adapted = [adapter(x) for adapter, x in zip(self.adapters, ours, strict=True)]
        parts["features"] = feature_part(adapted, theirs)
        self.count += 1
        for name in PARTS:
            self.sums[name] += float(parts[name].detach())
        return torch.stack([self.gains[name] * parts[name] for name in PARTS]).sum()

    def means(self) -> dict[str, float]:
        """The parts, multiplied with their gains, as means over the batches since the last call."""
        averages = {n: self.gains[n] * self.sums[n] / max(self.count, 1) for n in PARTS}
        self.sums, self.count = dict.fromkeys(PARTS, 0.0), 0
        return averages

    def state(self) -> dict[str, Any]:
        """What a resumed training needs: the adapters."""
        return deepcopy(self.adapters.state_dict())

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.adapters.load_state_dict(state)


def _mean_over_ranks(gradient: torch.Tensor) -> torch.Tensor:
    gradient = gradient.clone()
    dist.all_reduce(gradient)
    return gradient / dist.get_world_size()
