"""Files that export or YOLOv5 wrote, as val and detect open them: shapes, strides, names.

All is read before YOLOv5 sees the file: it would end in a traceback of its runtime, or evaluate
what stands in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.host.metadata import check_metadata, literal
from yolo_slim.runtimes import opened, runtime_of
from yolo_slim.runtimes.network import Network, Shape, unheard

LARGEST = 16384  # px
ENDINGS = (
    *(".pt", ".torchscript", ".onnx", "_openvino_model", ".engine", ".mlmodel", "_saved_model"),
    *(".pb", ".tflite", "_web_model", "_paddle_model"),
)
BOX = 5  # numbers of a detection before its classes: x, y, w, h, objectness
ROWS = "rows of x, y, w, h, objectness and classes, as an export without --nms has them"


@dataclass(frozen=True)
class Exported:
    """What an exported file takes and returns.

    Attributes:
        path: the file or folder that YOLOv5's loader takes.
        batch: images a call; None where it is open.
        imgsz: height and width, px; None where one is open, or the file does not say.
        classes: number of classes; None where it is open.
        masks: number of masks of a segmentation model; 0 of a detector.
        named: the classes have names.
    """

    path: Path
    batch: int | None
    imgsz: tuple[int, int] | None
    classes: int | None
    masks: int
    named: bool


def read_exported(file: str | Path) -> Exported | None:
    """An exported file, opened in its runtime and checked; None for what no runtime of ours runs.

    Raises:
        InputError: its runtime is not installed or refuses it, it returns no rows of boxes, or
            what it says of itself does not fit.
    """
    row = runtime_of(file)
    if row is None:
        return None
    _check_name(Path(file), row.suffix)
    network = opened(file, 1, exact=True)
    if "nms" in network.metadata:
        expected = "an export without --nms: val and detect suppress by themselves"
        raise InputError(file, "suppression is in it", expected)
    _check_images(network)
    outputs = _tried(network) or network.outputs
    rows = outputs[0] if outputs else ()
    other = network.shape and rows and None not in (rows[0], network.shape[0])
    if outputs and (
        len(rows) != 3
        or (rows[2] is not None and rows[2] <= BOX)
        or (other and rows[0] != network.shape[0])
        or (rows[2] in _cells(network) and (rows[1] or 0) < rows[2])
    ):
        sizes = " x ".join(str(size or "?") for size in rows) or "a number"
        raise InputError(file, f"it returns {sizes}", ROWS)
    masks = outputs[1][1] if len(outputs) > 1 and len(outputs[1]) == 4 else 0
    width = rows[2] if outputs else None
    classes = None if width is None or masks is None else width - BOX - masks
    _check(network, classes)
    height, width = network.shape[2:] if network.shape else (None, None)
    batch = network.shape[0] if network.shape else None
    path = network.path.parent if row.inside else network.path
    if not path.name.endswith(row.suffix):
        raise InputError(path, "another name", f"a folder *{row.suffix}: YOLOv5 goes by the name")
    sides = (height, width) if height and width else None
    about = network.metadata  # of an ONNX file without a stride YOLOv5 reads no names either
    named = bool(about.get("names")) and (row.suffix != ".onnx" or "stride" in about)
    return Exported(path, batch, sides, classes, masks or 0, named)


def _check_name(path: Path, suffix: str) -> None:
    """See that YOLOv5's loader knows a file by its name: it looks for endings anywhere in it."""
    others = [other for other in ENDINGS if other in path.name and other != suffix]
    if (others and suffix in ENDINGS) or "'" in str(path):
        got = f"a name with {others[0] if others else 'a quote'} in it"
        raise InputError(path, got, "another name: YOLOv5 takes it for another file")


def _check_images(network: Network) -> None:
    """See that a file takes images as YOLOv5 gives them: (batch, 3, height, width), float32."""
    shape, stride = network.shape, network.metadata.get("stride")
    if not shape:
        return
    sizes = " x ".join(str(size or "?") for size in shape)
    if len(shape) != 4 or shape[1] not in (3, None) or shape[0] == 0:
        raise InputError(network.path, f"it takes {sizes}", "images: batch x 3 x height x width")
    if network.inputs != 1 or not network.floats:
        got = f"{network.inputs} inputs" if network.inputs != 1 else "it takes no float32"
        raise InputError(network.path, got, "one input of images, float32")
    if (shape[2] is None) != (shape[3] is None):
        raise InputError(network.path, f"it takes {sizes}", "both sides fixed, or both open")
    for side in shape[2:]:
        if side is not None and side > LARGEST:
            raise InputError(network.path, f"it takes {sizes}", f"sides of {LARGEST} px at most")
        step = int(str(stride)[:9]) if str(stride).isdecimal() else 0
        if side is not None and step and side % step:
            got = f"it takes {sizes}, and its stride is {step}"
            raise InputError(network.path, got, "sides that are multiples of the stride")


def _tried(network: Network) -> tuple[Shape, ...]:
    """The shapes of what a file returns for a grey image; () where that cannot be tried.

    Raises:
        InputError: numbers that are none are among it, or the runtime says what is wrong.
    """
    import numpy as np

    batch = network.shape[0] if network.shape else None
    sizes = [size for size in network.shape[1:] if size is not None]
    if len(sizes) != 3:
        return ()
    try:
        with unheard():
            outputs = network(np.full([batch or 1, *sizes], 0.5, np.float32))
    except InputError:
        raise
    except Exception:  # a runtime raises anything; YOLOv5 says so, too
        return ()
    if not all(np.isfinite(out).all() for out in outputs):
        raise InputError(network.path, "it returns NaN or infinity for a grey image", "numbers")
    return tuple((batch and out.shape[0], *out.shape[1:]) for out in outputs)


def _cells(network: Network) -> set[int]:
    """How many columns a model without anchors returns, as YOLOv8's does; of YOLOv5's, which has
    anchors, there are more rows than that.
    """
    height, width = network.shape[2:] if network.shape else (None, None)
    if not height or not width:
        return set()
    counts = [(height // stride) * (width // stride) for stride in (8, 16, 32, 64)]
    return {sum(counts[:3]), sum(counts)}


def _check(network: Network, classes: int | None) -> None:
    """See that a file's stride and names are what YOLOv5 takes them for."""
    known: dict[str, Any] = dict(network.metadata)
    if "stride" not in known and "names" not in known:
        if network.path.suffix == ".xml":
            yaml = network.path.with_suffix(".yaml").name
            got = f"no {yaml} beside {network.path.name}"
            raise InputError(network.path.parent, got, "stride and names in it")
        return  # YOLOv5 then takes stride 32, and the names of --data
    if isinstance(known.get("names"), str):  # an ONNX file has texts alone
        try:
            known["names"] = literal(known["names"])
        except InputError as error:
            _, got, expected = error.parts
            raise InputError(f"{network.path}, names", got, expected) from error
    if network.path.suffix == ".onnx" and "stride" not in known:
        return  # YOLOv5 takes no notice of the names
    check_metadata(known.get("stride"), known.get("names"), classes, network.path)
