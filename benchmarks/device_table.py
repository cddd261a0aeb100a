"""Time that the table of a device predicts, against what is measured.

For each share the model is cut by the table; then the dense model and all cuts are timed in turns,
in one run, by the runtime that the table is of. A row: predicted and measured share of the dense
time, how far the first is from the second, share of the MACs, and speed-up times this share.

    python benchmarks/device_table.py --weights yolov5n.pt --imgsz 640 --runtime onnxruntime
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
import zipfile
from pathlib import Path

from yolo_slim.device.ncnn_param import to_ncnn

from yolo_slim import load
from yolo_slim.channels.rules import channel_graph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device import profile_device
from yolo_slim.device.layers import Exported
from yolo_slim.device.table import read_table
from yolo_slim.device.workload import without_weights
from yolo_slim.errors import InputError
from yolo_slim.host.architecture import find_cfg
from yolo_slim.measure.latency import interleaved
from yolo_slim.models.model import build_model
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.timed import Timed, timed_masks
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.masks import keep_vector
from yolo_slim.pruning.profile import workload_of
from yolo_slim.pruning.rebuild.rebuild import rebuild


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="yolov5n.yaml", help="checkpoint, or a model's yaml")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--runtime", choices=profile_device.RUNTIMES, default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.8, 0.7, 0.6, 0.5, 0.4])
    parser.add_argument("--criterion", default="l2", help="one that needs no images")
    parser.add_argument("--spread", default="uniform", help="global or uniform")
    parser.add_argument("--device", type=Path, help="a table that is there already")
    parser.add_argument("--repeats", type=int, default=40)
    opt = parser.parse_args()
    if opt.weights.endswith(".pt"):
        model = load(opt.weights).model
    else:
        model = build_model(find_cfg(opt.weights)).eval()
    start, path = time.time(), opt.device or Path(tempfile.mkdtemp()) / "device.json"
    if not path.exists():
        content = workload_of(model, opt.imgsz, [opt.runtime])
        prepared = time.time() - start
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            profile_device.measure(archive, opt.runtime, opt.threads, str(path))
        print(
            f"table: {prepared:.0f} s to prepare, {time.time() - start - prepared:.0f} s to measure"
        )
    graph, table = channel_graph(model, "inner"), read_table(path)
    exported = Exported(to_onnx(model, imgsz=opt.imgsz), graph)
    timed = Timed(exported, graph, table)
    counted = MaskCost(model, graph, opt.imgsz)
    scores = score(model, graph, opt.criterion)
    print(f"{table.processor}, {table.runtime} {table.version}, {opt.threads} threads")
    print(f"block {table.block}, step {table.step}, scales {table.scales}")
    networks, predicted, macs = {1.0: to_onnx(model, imgsz=opt.imgsz)}, {1.0: 1.0}, {1.0: 1.0}
    dense = timed.seconds(counted.everything)
    for share in opt.shares:
        try:
            masks = timed_masks(scores, timed, counted, share, spread=opt.spread)
        except InputError as error:
            print(error)
            continue
        keep = keep_vector(graph, masks)
        predicted[share] = timed.seconds(keep) / dense
        macs[share] = counted.macs(keep) / counted.dense.macs
        networks[share] = to_onnx(rebuild(model, graph, masks), imgsz=opt.imgsz)
    runtime = profile_device.RUNTIMES[opt.runtime](opt.threads)
    make = to_ncnn if opt.runtime == "ncnn" else without_weights
    calls = {name: runtime.call(make(network)) for name, network in networks.items()}
    times = interleaved(calls, repeats=opt.repeats)
    print(f"dense: predicted {1e3 * dense:.2f} ms, measured {times[1.0].median:.2f} ms")
    print("| asked | predicted | measured | error | MACs left | speed-up x MACs |")
    print("|---|---|---|---|---|---|")
    for share in networks:
        measured = times[share].median / times[1.0].median
        error = predicted[share] / measured - 1
        print(
            f"| {share:g} | {predicted[share]:.3f} | {measured:.3f} | {error:+.1%} "
            f"| {macs[share]:.3f} | {macs[share] / measured:.2f} |"
        )


if __name__ == "__main__":
    main()
