"""Folders with a .param and a .bin, in ncnn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.errors import InputError
from yolo_slim.runtimes.network import Network, Shape, beside, unheard

LARGEST = 16384  # px
WHOLE = "a folder that was copied whole"
SIZES = re.compile(r"^Input\s.* 0=(\d+) 1=(\d+) 2=(\d+)$", re.MULTILINE)  # width, height, channels


def read(path: Path, threads: int, exact: bool) -> Network:
    """Open a .param with its .bin; exact: in float32 where ncnn takes float16 or bfloat16.

    Raises:
        InputError: one of them is damaged or not there.
    """
    import ncnn

    net, weights = ncnn.Net(), path.with_suffix(".bin")
    net.opt.num_threads = threads
    if exact:
        for option in dir(net.opt):
            if option.startswith(("use_fp16_", "use_bf16_")):
                setattr(net.opt, option, False)
    if not weights.is_file():
        raise InputError(path.parent, f"no {weights.name} beside {path.name}", WHOLE)
    with unheard():
        opened = net.load_param(str(path)) == 0 and net.load_model(str(weights)) == 0
    if not opened:
        raise InputError(path, "ncnn refuses it, or its .bin", WHOLE)
    if len(net.input_names()) != 1:
        raise InputError(path, f"{len(net.input_names())} Input layers", "one, of images")
    (image,), names = net.input_names(), sorted(net.output_names(), key=number)

    def one(pixels: np.ndarray) -> list[np.ndarray]:
        extractor, pixels = net.create_extractor(), np.ascontiguousarray(pixels, np.float32)
        extractor.input(image, ncnn.Mat(pixels))  # points into the array, which has to live on
        outputs = [extractor.extract(name) for name in names]
        if any(failed for failed, _ in outputs):
            raise InputError(path, "ncnn cannot run it", WHOLE)
        return [np.array(mat)[None] for _, mat in outputs]  # copies: a Mat ends with its extractor

    def run(images: np.ndarray) -> list[np.ndarray]:
        parts = [one(image) for image in images]
        return [np.concatenate([part[k] for part in parts]) for k in range(len(names))]

    sizes = SIZES.search(path.read_text(errors="replace"))
    metadata = beside(path)
    if not sizes:
        return Network(path, noted(metadata), (), run, metadata)
    width, height, channels = map(int, sizes.groups())
    if max(width, height) > LARGEST or channels != 3:
        got = f"it takes {channels} x {height} x {width}"
        raise InputError(path, got, f"3 x height x width, {LARGEST} px at most")
    return Network(path, (None, channels, height, width), (), run, metadata)


def number(name: str) -> tuple[int, str]:
    """What outputs are sorted by: out2 stands before out10."""
    digits = re.sub(r"\D", "", name)
    return int(digits or 0), name


def noted(metadata: dict[str, Any]) -> Shape:
    """The shape of the images, from the yaml beside a network that does not say it; () if none."""
    match metadata.get("imgsz"):
        case [int(height), int(width)]:
            return None, 3, height, width
    return ()
