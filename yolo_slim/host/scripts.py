"""YOLOv5's own scripts, run as they are: val and detect, those for segmentation too."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from yolo_slim.errors import InputError
from yolo_slim.files import shipped
from yolo_slim.host import checkpoint, data
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.image import check_source
from yolo_slim.host.tasks import DETECTION, SEGMENTATION, Task, task_of_model

mend()

PROJECTS = {"val": "runs/val-seg", "detect": "runs/predict-seg"}  # the host's are in its package


def run_host(name: str, argv: Sequence[str] | None = None) -> None:
    """Run yolov5.val or yolov5.detect with its own command line; for a segmentation model
    yolov5.segment.val or yolov5.segment.predict.

    Args:
        name: val or detect.
        argv: the options, None for sys.argv.

    Raises:
        InputError: weights or data cannot be used, or the host refused its options.
    """
    from yolo_slim.parsing import OneLineParser

    options = list(sys.argv[1:] if argv is None else argv)
    first = OneLineParser(prog=f"yolo-slim {name}", add_help=False)
    first.add_argument("--weights", nargs="+", default=[])
    task, masks = kind(first.parse_known_args(options)[0].weights)
    host = task.script(name)

    class Parser(OneLineParser):
        def parse_args(self, *args: object, **kwargs: object) -> argparse.Namespace:  # type: ignore[override]
            self.prog = f"yolo-slim {name}"
            if task is SEGMENTATION:
                self.set_defaults(project=PROJECTS[name])
            opt = super().parse_args(options)
            del opt.modules  # the host takes its own options as arguments
            opt.data = str(shipped(opt.data) if shipped(opt.data).is_file() else opt.data)
            weights = opt.weights if isinstance(opt.weights, list) else [opt.weights]
            nc = None
            for file in weights:
                if Path(file).suffix == ".pt":
                    nc = checkpoint.load(file).model.nc
            opt.weights = [str(Path(file).absolute()) for file in weights]
            if name == "detect":
                check_source(opt.source)
            if name == "val":
                data.check_val(opt, nc, outlines=task is SEGMENTATION)
            return opt

    swapped: dict[str, Any] = {"argparse": SimpleNamespace(ArgumentParser=Parser)}
    if hasattr(host, "check_dataset"):
        swapped["check_dataset"] = data.read_data
    if task is SEGMENTATION:  # the host takes 32 masks for granted
        suppress = host.non_max_suppression
        swapped["non_max_suppression"] = lambda *a, **kw: suppress(*a, **{**kw, "nm": masks})
    with (
        checkpoint.safe_loading(),
        replaced(host, check_requirements=lambda *args, **kwargs: None, **swapped),
    ):
        try:
            if task is SEGMENTATION:
                host.main(host.parse_opt())
            else:
                host.main()
        except (AssertionError, FileNotFoundError) as error:
            raise InputError(f"yolo-slim {name}", str(error) or "refused", "see --help") from error


def kind(weights: Sequence[str]) -> tuple[Task, int]:
    """What the first of the files is for, and its number of masks, 0 for detection."""
    file = Path(weights[0]) if weights else Path()
    if file.suffix == ".pt":
        model = checkpoint.load(file).model
        task = task_of_model(model)
        return task, (model.model[-1].nm if task is SEGMENTATION else 0)
    try:
        shapes = OUTPUTS[file.suffix](file) if file.suffix in OUTPUTS else []
    except Exception:  # missing, damaged or not written by YOLOv5: it will say so
        shapes = []
    if len(shapes) > 1 and len(shapes[1]) == 4:  # the prototypes (batch, masks, h, w)
        return SEGMENTATION, shapes[1][1]
    return DETECTION, 0


def onnx_outputs(file: Path) -> list[list[int]]:
    """The shapes of an ONNX file's outputs, 0 where it is open."""
    import onnx

    outputs = onnx.load(file, load_external_data=False).graph.output
    return [[size.dim_value for size in out.type.tensor_type.shape.dim] for out in outputs]


def torchscript_outputs(file: Path) -> list[list[int]]:
    """The shapes of a TorchScript file's outputs, for an image of the size that is noted in it."""
    extra = {"config.txt": ""}
    script = torch.jit.load(file, map_location="cpu", _extra_files=extra)
    with torch.no_grad():
        outputs = script(torch.zeros(json.loads(extra["config.txt"])["shape"]))
    return [list(out.shape) for out in outputs if isinstance(out, torch.Tensor)]


OUTPUTS = {".onnx": onnx_outputs, ".torchscript": torchscript_outputs}
