"""What is counted of an exported file, and which of our modules counts which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.late import function_at
from yolo_slim.packages import check_imports


@dataclass(frozen=True)
class Counted:
    """Parameters and MACs of an exported file.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of one image, convs and matrix products, as `cost` counts them.
        in_8_bits: most of the parameters are stored in 8 bits.
    """

    params: int
    macs: int
    in_8_bits: bool = False


COUNTERS = {  # by how the names of files end; the files of other formats are not counted
    ".onnx": "onnx_cost.onnx_cost",
    ".torchscript": "torchscript_cost.torchscript_cost",
    "_openvino_model": "openvino_cost.openvino_cost",
}
NEEDS = {".onnx": ("onnx",)}  # besides what runs the file


def counted_file(path: Path, suffix: str, shape: tuple[int, int, int, int]) -> Counted | None:
    """Count an exported file; None for a format whose files do not tell.

    Args:
        path: the file, or the one that stands for its folder.
        suffix: how the names of files of its format end.
        shape: (batch, channels, height, width) of the images.

    Raises:
        InputError: the file is damaged, or does not take such images; a package that reads it
            cannot be imported.
    """
    if suffix not in COUNTERS:
        return None
    check_imports(path, NEEDS.get(suffix, ()))
    counted: Counted = function_at(__package__, COUNTERS[suffix])(path, shape)
    return counted
