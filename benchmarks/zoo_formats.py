"""Every model yaml that ships with YOLOv5, in every export format: the difference from PyTorch.

    python benchmarks/zoo_formats.py                     # all of them: 4 minutes on one core
    python benchmarks/zoo_formats.py --only transformer  # models whose name holds this

Each model has an eighth of its width and random weights, and sees one random image of 128 px. A
cell is the largest difference of a box, px, and of a score; or what the converter does not know.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm
from zoo import build, zoo

from yolo_slim.deploy.check import compare
from yolo_slim.deploy.formats import FORMATS, Format
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import InputError
from yolo_slim.measure.latency import random_images

SIDE = 128  # px; the largest stride of the zoo
WIDTH = 0.125
ROWS = [row for row in FORMATS.values() if not row.exact]


def difference(row: Format, model: torch.nn.Module) -> str:
    """How far an exported file is from its model, or why there is none."""
    options, images = ExportOptions((SIDE, SIDE)), random_images(1, 3, SIDE, SIDE)
    try:
        content = row.write(model, options)
    except InputError as error:
        where, got, _ = error.parts
        return f"{got} ({where.rpartition(', ')[2]})"
    with tempfile.TemporaryDirectory() as folder:
        network = row.open(row.put(Path(folder), "model", content), 1, exact=True)
        agreement = compare(model, network, [images])
    text = f"{agreement.boxes:.0e}, {agreement.scores:.0e}"
    return text if agreement.holds else f"**{text}**"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="models whose name holds this")
    opt = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    head = ["model", *(row.name for row in ROWS)]
    lines = [head, ["---"] * len(head)]
    files = [file for file in zoo() if opt.only in file.stem]
    for file in tqdm(files, unit="model"):
        model = build(file, width=WIDTH)
        lines.append([file.stem, *(difference(row, model) for row in ROWS)])
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
