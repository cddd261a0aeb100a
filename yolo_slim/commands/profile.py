"""profile: what each layer of a model costs on a device, at each width, in one table."""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.as_called import as_called, named
from yolo_slim.errors import InputError, check_count, check_imgsz
from yolo_slim.files import CHECKPOINT, check_file, check_writable, write_aside
from yolo_slim.parsing import OneLineParser
from yolo_slim.text import say

RUNTIMES = ("onnxruntime", "openvino", "ncnn")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("profile"),
        description="Time the layers of a model on this machine, at several widths, for "
        "--latency --device. For another device --prepare writes what profile_device.py runs there.",
    )
    parser.add_argument("weights", metavar="FILE", help="checkpoint (.pt)")
    add = parser.add_argument_group("what is timed").add_argument
    add("--imgsz", "--img", type=int, default=640, help="image size, px (default: 640)")
    text = "what runs the model (default: onnxruntime)"
    add("--runtime", choices=RUNTIMES, default="onnxruntime", help=text)
    add("--threads", type=int, default=2, help="of the runtime (default: 2)")
    add = parser.add_argument_group("what is written").add_argument
    text = "the table (default: device.json)"
    add("-o", "--output", type=Path, default=Path("device.json"), metavar="FILE", help=text)
    text = "measure nothing: write the workload for another device, with the script that runs it"
    add("--prepare", type=Path, metavar="ZIP", help=text)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Path:
    """Write a table, or a workload; returns the file."""
    opt = parse(argv)
    check_count("--imgsz", opt.imgsz)
    check_count("--threads", opt.threads)
    check_file("weights", opt.weights, CHECKPOINT)
    target = opt.prepare or opt.output
    if target.is_dir():
        raise InputError("--prepare" if opt.prepare else "--output", f"{target}, a folder", "a file")
    check_writable(target.parent)

    from yolo_slim.device import profile_device
    from yolo_slim.models import load
    from yolo_slim.pruning.profile import workload_of

    checkpoint = load(opt.weights)
    check_imgsz(opt.imgsz, int(max(checkpoint.model.stride)))
    runtimes = RUNTIMES if opt.prepare else (opt.runtime,)
    content = workload_of(checkpoint.model, opt.imgsz, runtimes)
    if opt.prepare:
        script = target.parent / "profile_device.py"
        write_aside(target, content)
        write_aside(script, Path(profile_device.__file__).read_bytes())
        say(f"On the device: python {script.name} {target.name} --runtime {opt.runtime}")
        return target
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        profile_device.measure(archive, opt.runtime, opt.threads, str(target))
    words = ("--weights", opt.weights, "--latency", "0.6", "--device", target)
    say(f"Next: {as_called('prune', *words)}")
    return target
