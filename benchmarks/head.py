"""What Detect's decoding costs in an exported network, decoded by planes and as YOLOv5 does it.

Three networks run in turns: exported with YOLOv5's own decoding, exported as export.py does it
(deploy/head.py), and the same network cut at the outputs of the head's convs. The decoding is what
a whole network takes more than the cut one. Compared are medians. Weights are random unless
--weights is given; the cut is `prune(macs=SHARE)`; random images of one size.
Target: a quarter of YOLOv5's decoding in ONNX Runtime; never slower in OpenVINO and ncnn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
from _common import parser, random_model, save_json
from torch import nn
from tqdm import tqdm
from yolo_slim.device.ncnn_param import to_ncnn

from yolo_slim import load, prune
from yolo_slim.deploy import export
from yolo_slim.device.profile_device import RUNTIMES, processor
from yolo_slim.host.compat import replaced
from yolo_slim.measure.latency import interleaved, warning_of
from yolo_slim.text import table


def cut_at_head(content: bytes, model: nn.Module) -> bytes:
    """The network up to the outputs of the head's convs."""
    layer = len(model.model) - 1
    weights = {f"model.{layer}.m.{index}.weight" for index in range(model.model[-1].nl)}
    nodes = onnx.load_from_string(content).graph.node
    outputs = [node.output[0] for node in nodes if weights & set(node.input)]
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.onnx", Path(folder) / "cut.onnx"
        whole.write_bytes(content)
        onnx.utils.extract_model(str(whole), str(cut), ["images"], outputs)
        return cut.read_bytes()


def networks(model: nn.Module, imgsz: int) -> dict[str, bytes]:
    """The three networks, as ONNX."""
    with replaced(export, decode_by_planes_=lambda model: None):
        before = export.to_onnx(model, imgsz=imgsz)
    after = export.to_onnx(model, imgsz=imgsz)
    return {"before": before, "after": after, "cut": cut_at_head(after, model)}


def models(opt: Any, classes: int) -> dict[str, nn.Module]:
    """Dense and cut, by name."""
    if opt.weights:
        name, dense = Path(opt.weights).name, load(opt.weights).model
    else:
        name, dense = opt.model, random_model(opt.model, nc=classes)
        dense.names = {index: str(index) for index in range(classes)}
    made = {name: dense}
    if opt.macs:
        made[f"{name}, {opt.macs:.0%} of MACs"] = prune(dense, macs=opt.macs, criterion="bn").model
    return made


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--model", default="yolov5n", help="a model yaml of the host")
    args.add_argument("--weights", help="a checkpoint in its place; --classes is then its own")
    args.add_argument("--macs", type=float, default=0.5, help="share left by the cut; 0: no cut")
    args.add_argument("--classes", nargs="+", type=int, default=[80, 3], help="numbers of classes")
    args.add_argument("--imgsz", nargs="+", type=int, default=[640], help="px")
    args.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the runtime")
    args.add_argument("--runtime", choices=list(RUNTIMES), default="onnxruntime")
    args.add_argument("--repeats", type=int, default=40, help="timed rounds")
    opt = args.parse_args()

    rows, results = [], []
    classes = [0] if opt.weights else opt.classes
    cases = [(count, size) for count in classes for size in opt.imgsz]
    for count, imgsz in tqdm(cases, desc="models", unit="case"):
        for name, model in models(opt, count).items():
            files = networks(model, imgsz)
            sizes = {key: len(content) for key, content in files.items()}
            if opt.runtime == "ncnn":
                files = {key: to_ncnn(content) for key, content in files.items()}
            for threads in opt.threads:
                runtime = RUNTIMES[opt.runtime](threads)
                calls = {key: runtime.call(content) for key, content in files.items()}
                times = interleaved(calls, repeats=opt.repeats)
                before, after, cut = (times[key].median for key in ("before", "after", "cut"))
                decoding = before - cut, after - cut
                case = {"model": name, "classes": model.model[-1].nc, "imgsz": imgsz}
                results.append(
                    {**case, "threads": threads, "before": before, "after": after, "cut": cut}
                    | {"bytes": sizes, "ratio": decoding[1] / decoding[0]}
                )
                rows.append(
                    [*map(str, (*case.values(), threads))]
                    + [f"{ms:.2f}" for ms in (before, after, *decoding)]
                    + [f"{decoding[1] / decoding[0]:.2f}", warning_of(times) and "rough"]
                )
    head = ["model", "classes", "px", "threads", "before, ms", "after", "decoding", "after"]
    title = f"{opt.runtime} on {processor()}, medians of {opt.repeats}"
    print(table([*head, "ratio", ""], rows, title))
    save_json(opt.json, runtime=opt.runtime, processor=processor(), results=results)


if __name__ == "__main__":
    main()
