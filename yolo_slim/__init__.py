"""yolo-slim: makes a YOLOv5 detector smaller and faster and keeps what it knows.

The public names, in the order of the road. The host (YOLOv5) is imported with the first of them
that is used, so that `import yolo_slim` and every `--help` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_slim.calibration import Calibration
    from yolo_slim.channels.rules import channel_graph, rule, walk
    from yolo_slim.errors import InputError
    from yolo_slim.extensions import admit
    from yolo_slim.finegrained.weights import sparsify_
    from yolo_slim.host.calibration import calibrate
    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.models import load
    from yolo_slim.models.model import ModelPruned
    from yolo_slim.pruning.criteria.table import criterion
    from yolo_slim.pruning.prune import Pruned, prune, save
    from yolo_slim.sparsify.penalty import SparsityPenalty
    from yolo_slim.weight_masks import reapply_

__version__ = "0.1.0"

_HOME = {
    "load": "models",
    "Checkpoint": "host.checkpoint",
    "SparsityPenalty": "sparsify.penalty",
    "admit": "extensions",
    "channel_graph": "channels.rules",
    "rule": "channels.rules",
    "walk": "channels.rules",
    "calibrate": "host.calibration",
    "Calibration": "calibration",
    "criterion": "pruning.criteria.table",
    "prune": "pruning.prune",
    "Pruned": "pruning.prune",
    "ModelPruned": "models.model",
    "save": "pruning.prune",
    "sparsify_": "finegrained.weights",
    "reapply_": "weight_masks",
    "InputError": "errors",
}
__all__ = [
    "Calibration",
    "Checkpoint",
    "InputError",
    "ModelPruned",
    "Pruned",
    "SparsityPenalty",
    "admit",
    "calibrate",
    "channel_graph",
    "criterion",
    "load",
    "prune",
    "reapply_",
    "rule",
    "save",
    "sparsify_",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'yolo_slim' has no attribute {name!r}")
    return getattr(import_module(f"yolo_slim.{_HOME[name]}"), name)
