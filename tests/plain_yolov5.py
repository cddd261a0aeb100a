"""YOLOv5's own scripts on checkpoints, through the functions that `yolov5 val` and so on call.

Imported, in the process of the tests; run as a script, in one that has no yolo_slim:

    python plain_yolov5.py yolov5. jobs.json    the pip package
    python plain_yolov5.py "" jobs.json         a clone, on PYTHONPATH
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

Job = dict[str, Any]  # weights, folder, data, images, segmentation; serve, export, train: to do


def serve(root: str, job: Job) -> list[float]:
    """val, detect and export of one checkpoint, into its folder; returns what val returns."""
    folder, weights, data = Path(job["folder"]), job["weights"], job["data"]
    folder.mkdir(parents=True)
    val, detect = ("segment.val", "segment.predict") if job["segmentation"] else ("val", "detect")
    common: dict[str, Any] = {"weights": weights, "data": data, "project": folder}
    text = {"save_txt": True, "save_conf": True}
    results, *_ = import_module(root + val).run(
        **common,
        **({} if job["segmentation"] else text),  # on which segment/val.py fails
        imgsz=64,
        batch_size=8,
        workers=0,
        plots=False,
        name="val",
    )
    import_module(root + detect).run(
        **common,
        **text,
        source=job["images"],
        imgsz=(64, 64),
        conf_thres=0.001,
        nosave=True,
        name="detect",
    )
    export(root, weights)
    return [float(value) for value in results]


def export(root: str, weights: str) -> None:
    """YOLOv5's export: ONNX and TorchScript beside the weights.

    It calls torch.onnx.export as if dynamo were not the default; torch 2.14 fails on that.
    """
    import torch

    legacy = torch.onnx.export
    torch.onnx.export = partial(legacy, dynamo=False)
    try:
        import_module(f"{root}export").run(
            weights=weights, imgsz=[64, 64], include=["torchscript", "onnx"]
        )
    finally:
        torch.onnx.export = legacy


def train(root: str, job: Job) -> str:
    """One epoch of YOLOv5's training from the weights; returns where the run is."""
    script = "segment.train" if job["segmentation"] else "train"
    opt = import_module(root + script).run(
        weights=job["weights"],
        data=job["data"],
        imgsz=64,
        epochs=1,
        batch_size=8,
        workers=0,
        noplots=True,
        project=f"{job['folder']}-train",
    )
    return str(opt.save_dir)


def mend_plain(root: str) -> None:
    """What yolov5 7.0.14 needs on today's torch and numpy, whichever file it is to open."""
    import numpy
    from packaging.version import parse

    resources = ModuleType("pkg_resources")
    resources.parse_version = parse  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = resources
    if not hasattr(numpy, "trapz"):
        numpy.trapz = numpy.trapezoid
    # NMS looks at the clock and drops what it has not done in time on a slow machine.
    import_module(f"{root}utils.general").time = SimpleNamespace(time=lambda: 0.0)


def main(root: str, file: str) -> None:
    """Do the jobs of a json file; what was found goes beside it."""
    import torch

    sys.modules["yolo_slim"] = None  # type: ignore[assignment]
    if not root:
        sys.modules["yolov5"] = None  # type: ignore[assignment]
    mend_plain(root)
    attempt_load = import_module(f"{root}models.experimental").attempt_load
    order = json.loads(Path(file).read_text())
    found: dict[str, Any] = {}
    for name, job in order["jobs"].items():
        out = found[name] = {}
        for fuse in (False, True):
            model = attempt_load(job["weights"], fuse=fuse)
            with torch.no_grad():
                out[f"output, fuse={fuse}"] = model(torch.load(order["image"]))[0]
            norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
            out[f"norms, fuse={fuse}"] = len(norms)
        if job.get("serve"):
            out["val"] = serve(root, job)
        elif job.get("export"):
            export(root, job["weights"])
        if job.get("train"):
            try:
                out["train"] = train(root, job)
            except Exception as error:
                out["train"] = f"{type(error).__name__}: {error}"
    found["ours"] = [m for m in sys.modules if m.startswith("yolo_slim") and sys.modules[m]]
    torch.save(found, order["found"])


if __name__ == "__main__":
    main(*sys.argv[1:])
