"""profile: what each layer of a model costs on a device, at each width, in one table."""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.as_called import as_called, named
from yolo_slim.errors import InputError, check_count, check_imgsz
from yolo_slim.files import CHECKPOINT, check_file, check_writable, write_aside
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.packages import MAKERS, check_imports, check_installed
from yolo_slim.parsing import OneLineParser
from yolo_slim.text import say

RUNTIMES = {  # what runs a model: what is installed for it, and for its workload
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
}
SCRIPT = "profile_device.py"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("profile"),
        description="Time the layers of a model on this machine at several widths, for --latency "
        f"--device. For another device, --prepare writes what {SCRIPT} runs there.",
    )
    parser.add_argument("weights", metavar="FILE", help="checkpoint (.pt)")
    add = parser.add_argument_group("what is timed").add_argument
    text = "image size, px (default: that of the training, or 640)"
    add("--imgsz", "--img", type=int, help=text)
    text = "data yaml: the head gets its classes, if it has others (as prune and slim do it)"
    add("--data", help=text)
    text = "what runs the model (default: onnxruntime)"
    add("--runtime", choices=tuple(RUNTIMES), default="onnxruntime", help=text)
    add("--threads", type=int, default=2, help="of the runtime (default: 2)")
    add = parser.add_argument_group("what is written").add_argument
    text = "the table (default: device.json)"
    add("-o", "--output", type=Path, default=Path("device.json"), metavar="FILE", help=text)
    text = f"measure nothing: write the workload for another device, and beside it {SCRIPT}"
    add("--prepare", type=Path, metavar="ZIP", help=text)
    return parser.parse_args(argv)


def check(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without the model; nothing heavy is imported.

    Raises:
        InputError: an option is out of range, a file is not there, or a runtime is not installed.
    """
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    check_count("--threads", opt.threads)
    check_file("weights", opt.weights, CHECKPOINT)
    if opt.data:
        check_data_file(opt.data)
    option, file = ("--prepare", opt.prepare) if opt.prepare else ("--output", opt.output)
    if file.is_dir():
        raise InputError(option, f"{file}, a folder", "a file")
    check_writable(file.parent)
    check_installed(f"--runtime {opt.runtime}", needs_of(opt))


def needs_of(opt: argparse.Namespace) -> list[str]:
    """The packages that write the workload, and the one that runs it, if it is run here."""
    return [*MAKERS, *RUNTIMES[opt.runtime][1 if opt.prepare else 0 :]]


def main(argv: Sequence[str] | None = None) -> Path:
    """Write a table, or a workload; returns the file."""
    opt = parse(argv)
    check(opt)
    check_imports(f"--runtime {opt.runtime}", needs_of(opt))

    from yolo_slim.device import profile_device
    from yolo_slim.device.table import read_table
    from yolo_slim.host.data import read_data
    from yolo_slim.host.head import with_classes
    from yolo_slim.host.image import check_rgb
    from yolo_slim.host.trained_with import classes_of, imgsz_of
    from yolo_slim.models import load
    from yolo_slim.pruning.profile import workload_of

    source = load(opt.weights)
    check_rgb(source.model, Path(opt.weights))
    model, imgsz = source.model, imgsz_of(source, opt.imgsz)
    if opt.data:
        names = read_data(opt.data)["names"]
        if classes_of(source) not in (None, len(names)):
            model = with_classes(model, names)
            say(f"The head is timed as it is for {', '.join(names.values())}.")
    say(f"{source}. It is exported at {imgsz} px: layer by layer, and some cuts of it as a whole.")
    # onnxruntime and openvino read the same files; ncnn has its own, made by pnnx.
    content = workload_of(model, imgsz, [opt.runtime])
    if opt.prepare:
        script = opt.prepare.parent / SCRIPT
        write_aside(opt.prepare, content)
        write_aside(script, Path(profile_device.__file__).read_bytes())
        needs = f"Python, numpy and {opt.runtime}"
        say(f"{opt.prepare}, {script}: copy both to the device, which needs {needs}. There:")
        print(f"python {SCRIPT} {opt.prepare.name} --runtime {opt.runtime} -o device.json")
        return Path(opt.prepare)
    opt.output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            profile_device.measure(archive, opt.runtime, opt.threads, str(opt.output))
        except KeyboardInterrupt as stop:
            print(file=sys.stderr)  # the bar ends here
            raise KeyboardInterrupt("the same command goes on from here") from stop
        except profile_device.Mistake as mistake:
            raise InputError(*mistake.parts) from mistake
    say(f"{opt.output}: what the layers cost here")
    if rough := read_table(opt.output).rough:
        say(rough)
    words = ["--weights", opt.weights, "--latency", "0.6", "--device", opt.output]
    words += ["--data", opt.data] if opt.data else []
    print(f"Next: {as_called('prune', *words)}")
    return Path(opt.output)
