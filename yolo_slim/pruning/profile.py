"""The workload of a model for a device: its layers, and the model at several widths as a whole.

Single layers do not tell what lies between them: caches, changes of layout, the runtime's own work.
The whole networks show that; the table is fitted to them (see `DeviceTable`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from yolo_slim.channels.rules import channel_graph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device.ncnn_param import to_ncnn
from yolo_slim.device.workload import workload
from yolo_slim.errors import InputError
from yolo_slim.pruning.budget.target import Target
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.options import CutOptions
from yolo_slim.pruning.prune import Chooser
from yolo_slim.pruning.rebuild.rebuild import rebuild

SHARES = (0.75, 0.5, 0.35)  # of the MACs, of the networks that are timed as a whole


def workload_of(model: nn.Module, imgsz: int, runtimes: Sequence[str]) -> bytes:
    """The zip that `profile_device.py` runs.

    Args:
        model: a detector; left untouched.
        imgsz: side of the image, px.
        runtimes: names of those that it is for.

    Raises:
        InputError: nothing of it can be cut; ncnn, and its converter is not installed.
    """
    graph = channel_graph(model, "inner")
    dense = to_onnx(model, imgsz=imgsz)
    networks = {"dense": dense}
    for share in SHARES:
        options = CutOptions(
            Target("macs", share), criterion="first", round_to=32, imgsz=imgsz, budget="uniform"
        )
        chooser = Chooser(options, model)
        try:
            masks, _ = chooser.choose(score(model, chooser.graph, "first"))
        except InputError:  # so little of it can go
            continue
        networks[f"{share:.0%} of the MACs"] = to_onnx(
            rebuild(model, chooser.graph, masks), imgsz=imgsz
        )
    convert = {".param": to_ncnn} if "ncnn" in runtimes else {}
    return workload(dense, graph, networks, imgsz=imgsz, convert=convert)
