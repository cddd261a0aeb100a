"""yolo-slim: makes a YOLOv5 detector smaller and faster and keeps what it knows.

The public names, in the order of the road. The host (YOLOv5) is imported with the first of them
that is used, so that `import yolo_slim` and every `--help` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_slim.channels.rules import channel_graph, rule, walk
    from yolo_slim.errors import InputError
    from yolo_slim.host.calibration import calibrate
    from yolo_slim.host.checkpoint import Checkpoint, load
    from yolo_slim.host.extensions import admit
    from yolo_slim.pruning.calibration import Calibration
    from yolo_slim.pruning.criteria import criterion
    from yolo_slim.pruning.finegrained import sparsify_
    from yolo_slim.pruning.model import ModelPruned
    from yolo_slim.pruning.prune import Pruned, prune, save
    from yolo_slim.pruning.weight_masks import reapply_
    from yolo_slim.sparsify.penalty import SparsityPenalty

__version__ = "0.1.0"

_HOME = {
    "load": "host.checkpoint",
    "Checkpoint": "host.checkpoint",
    "SparsityPenalty": "sparsify.penalty",
    "admit": "host.extensions",
    "channel_graph": "channels.rules",
    "rule": "channels.rules",
    "walk": "channels.rules",
    "calibrate": "host.calibration",
    "Calibration": "pruning.calibration",
    "criterion": "pruning.criteria",
    "prune": "pruning.prune",
    "Pruned": "pruning.prune",
    "ModelPruned": "pruning.model",
    "save": "pruning.prune",
    "sparsify_": "pruning.finegrained",
    "reapply_": "pruning.weight_masks",
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
