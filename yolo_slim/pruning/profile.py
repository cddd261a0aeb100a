"""The workload of a model for a device: its layers, and the model at several widths as a whole.

Single layers do not tell what lies between them: caches, changes of layout, the runtime's own work.
The whole networks show that; the table is fitted to them (see `DeviceTable`).
"""

from __future__ import annotations

import io
import math
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from tqdm import tqdm

from yolo_slim.channels.rules import channel_graph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.ncnn import to_ncnn
from yolo_slim.device.profile_device import Mistake, measure
from yolo_slim.device.table import DeviceTable, read_table
from yolo_slim.device.workload import Network, workload
from yolo_slim.errors import InputError
from yolo_slim.pruning.budget.choose import choose_masks
from yolo_slim.pruning.budget.goals import goal_of
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.target import Target
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.rebuild.rebuild import rebuild

# Networks that are timed as a whole: share of the MACs, and what channels are multiples of.
CUTS = ((0.75, 32), (0.5, 32), (0.35, 32), (0.5, 16), (0.2, 16), (0.5, 8))


def workload_of(model: nn.Module, imgsz: int, runtimes: Sequence[str]) -> bytes:
    """The zip that `profile_device.py` runs.

    Args:
        model: a detector; left untouched.
        imgsz: side of the image, px.
        runtimes: names of those that it is for.

    Raises:
        InputError: ncnn, and its converter is not installed, or does not know a layer.
    """
    graph = channel_graph(model, "inner")
    dense = to_onnx(model, imgsz=imgsz)
    networks, counted = [Network("dense", dense)], MaskCost(model, graph, imgsz)
    scores = score(model, graph, "first")
    for share, step in tqdm(CUTS, desc="exporting cuts", unit="network", leave=False):
        goal = goal_of(Target("macs", share), graph, counted, step)
        try:
            masks = choose_masks(graph, scores, goal, round_to=step, spread="uniform")
        except InputError:  # so little of it can go
            continue
        network = to_onnx(rebuild(model, graph, masks), imgsz=imgsz)
        # Narrow layers may have come down in half of the step, where the share asked for it.
        true = math.gcd(step, *(int(mask.sum()) for mask in masks.values() if not mask.all()))
        networks.append(Network(f"{share:.0%} of the MACs, by {true}, {step}", network, true))
    convert = {".param": to_ncnn} if "ncnn" in runtimes else {}
    graph = channel_graph(model, "group")  # a table is for cuts of every residual mode
    return workload(dense, graph, networks, imgsz=imgsz, convert=convert)


def table_here(
    model: nn.Module, imgsz: int, threads: int = 2, file: Path | None = None
) -> DeviceTable:
    """The table of this machine, by ONNX Runtime.

    Args:
        model, imgsz: see `workload_of`.
        threads: of the runtime.
        file: where it is kept; what was measured before an interruption is not measured again.
    """
    content = workload_of(model, imgsz, ["onnxruntime"])
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(content)) as archive:
        path = file or Path(folder) / "device.json"
        try:
            measure(archive, "onnxruntime", threads, str(path))
        except Mistake as mistake:
            raise InputError(*mistake.parts) from mistake
        except KeyboardInterrupt:
            print(file=sys.stderr)  # the bar ends here
            raise
        return read_table(path)
