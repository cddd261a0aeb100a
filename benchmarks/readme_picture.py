"""The picture of README.md: one image, and what two models see in it, not cut and cut.

The models are trained for 24 epochs each, from the COCO weights, at the same learning rate. The one
that is not cut is the row "24 epochs" of docs/results.md, which `benchmarks/accuracy.py` leaves
under its --work. The cut one is what slim makes with its defaults:

    python benchmarks/accuracy.py --work W --sets bccd --methods dense --epochs 24 --seeds 0
    yolo-slim slim --weights yolov5n.pt --data bccd.yaml --img 320 --macs 0.45 --epochs 24 --seed 0
    python benchmarks/readme_picture.py W/DENSE/weights/best.pt runs/slim/exp/best.pt

The image is the first of the validation split that has each class. Each model is validated on all
images of that split, and timed in ONNX Runtime, in turns. Needs ../shared/data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from _common import parser
from _data import BCCD_NAMES, SHARED, bccd

from yolo_slim import load
from yolo_slim.deploy.export import to_onnx
from yolo_slim.host.checkpoint import Checkpoint
from yolo_slim.host.data import check_data, general, images
from yolo_slim.host.evaluate import evaluate
from yolo_slim.host.image import read_images
from yolo_slim.host.images import img2label_paths
from yolo_slim.measure.cost import cost
from yolo_slim.measure.latency import onnx_latency
from yolo_slim.pictures import ACCENT, INK, LEAF, new_figure, write_picture

COLORS = dict(zip(BCCD_NAMES, (ACCENT, INK, LEAF), strict=True))
CELLS = {"RBC": "red blood cell", "WBC": "white blood cell", "Platelets": "platelet"}


@dataclass(frozen=True)
class Seen:
    """What a model sees, and what it takes.

    Attributes:
        boxes: (n, 6) float: x1, y1, x2, y2 (px of the letterboxed image), confidence, class.
        text: its parameters, MACs, file, time and mAP.
    """

    boxes: np.ndarray
    text: str


def main() -> None:
    args = parser(__doc__)
    args.add_argument("dense", type=Path, help="checkpoint that is not cut")
    args.add_argument("slim", type=Path, help="checkpoint that is cut")
    args.add_argument("--image", default="", help="name of another validation image")
    args.add_argument("--imgsz", type=int, default=320, help="px")
    args.add_argument("--threads", type=int, default=2, help="of ONNX Runtime")
    args.add_argument("--out", type=Path, default=Path("docs/img/before-after.png"))
    opt = args.parse_args()
    if not SHARED.is_dir():
        sys.exit(f"skipped: no {SHARED}")
    models = {"not cut": load(opt.dense), "cut": load(opt.slim)}
    exports = {name: to_onnx(each.model, imgsz=opt.imgsz) for name, each in models.items()}
    times = onnx_latency(exports, imgsz=opt.imgsz, threads=opt.threads, repeats=200)
    with TemporaryDirectory() as folder:
        data = check_data(bccd(Path(folder)))
        files = images(data)
        pairs = zip(files, img2label_paths([str(file) for file in files]), strict=True)
        chosen = next(f for f, label in pairs if fits(f, Path(label), opt.image))
        image = read_images([chosen], opt.imgsz)
        seen = {
            name: look(each, image, data, opt.imgsz, times[name].median)
            for name, each in models.items()
        }
    print(draw(image[0], seen, opt.out))
    print("\n".join(f"{name}: {each.text}" for name, each in seen.items()))


def fits(image: Path, label: Path, named: str) -> bool:
    """True for the image of a name; without a name for one whose labels have each class."""
    if named:
        return named in image.name
    return len({line.split()[0] for line in label.read_text().splitlines()}) == len(BCCD_NAMES)


def look(source: Checkpoint, image: np.ndarray, data: dict, imgsz: int, ms: float) -> Seen:
    """Detect in one image as YOLOv5's detect does, and measure the model.

    Args:
        source: the model.
        image: (1, 3, imgsz, imgsz) float32 in [0, 1].
        data: what mAP is measured on.
        imgsz: px.
        ms: its latency.
    """
    with torch.no_grad():
        output = source.model(torch.from_numpy(image))[0]
    boxes = general.non_max_suppression(output, 0.25, 0.45)[0].numpy()
    size, accuracy = cost(source.model, imgsz), evaluate(source.model, data, imgsz=imgsz)
    text = f"{size.params / 1e6:.2f} M parameters, {size.macs / 1e9:.2f} G MACs, "
    text += f"{source.path.stat().st_size / 1e6:.1f} MB\n{ms:.1f} ms, mAP50-95 {accuracy.map:.3f}"
    return Seen(boxes, text)


def draw(image: np.ndarray, seen: dict[str, Seen], file: Path) -> Path:
    """The image twice, with the boxes of each model; image (3, h, w) float32, RGB."""
    shown = cv2.resize((image.transpose(1, 2, 0) * 255).astype(np.uint8), None, fx=2, fy=2)
    rows = np.flatnonzero((image != 114 / 255).any((0, 2)))  # the letterbox's border is left out
    figure = new_figure(8.4, 4.0)
    for axes, (name, each) in zip(figure.subplots(1, 2), seen.items(), strict=True):
        axes.imshow(shown)
        for x1, y1, x2, y2, _, index in each.boxes * [2, 2, 2, 2, 1, 1]:
            color = COLORS[BCCD_NAMES[int(index)]]
            axes.add_patch(rectangle(x1, y1, x2 - x1, y2 - y1, color))
        axes.set(xticks=[], yticks=[], ylim=(2 * rows[-1] + 1, 2 * rows[0]))
        axes.set_title(name, fontsize=12, fontweight="bold", loc="left")
        axes.set_xlabel(each.text, fontsize=10)
    marks = [rectangle(0, 0, 1, 1, color) for color in COLORS.values()]
    labels = [CELLS[name] for name in COLORS]
    figure.legend(marks, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return write_picture(figure, file)


def rectangle(x: float, y: float, width: float, height: float, color: str):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=1.5)


if __name__ == "__main__":
    main()
