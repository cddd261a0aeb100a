"""Every model yaml that ships with YOLOv5, at full size: docs/models.md.

    python benchmarks/zoo.py --write docs/models.md      # the table: percent 0.5, residual skip
    python benchmarks/zoo.py --all                       # each at 0, 0.3, 0.6, 0.9 in each residual
                                                         # mode: parity, and that of a second cut

Weights and BN statistics are random (seed 0): what is shown is what may be cut, not what a cut
costs in accuracy.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch
import yaml
from _common import randomise_norms_
from torch import nn
from tqdm import tqdm

from yolo_slim import channel_graph, prune
from yolo_slim.host.compat import mend
from yolo_slim.models.model import build_model

mend()
ROOT = Path(__file__).resolve().parents[1]
RESIDUAL = ("skip", "inner", "group")
SHARES = (0.0, 0.3, 0.6, 0.9)


def zoo() -> list[Path]:
    """The model yamls of the host, and ours of a v5.0 model."""
    import yolov5

    found = sorted((Path(yolov5.__file__).parent / "models").rglob("yolo*.yaml"))
    return [*found, ROOT / "cfg" / "yolov5s-v5.0.yaml"]


def build(
    file: Path, seed: int = 0, width: float | None = None, depth: float | None = None
) -> nn.Module:
    """A model of the zoo with random weights, BN weights and BN statistics.

    Args:
        file: a model yaml.
        seed: of all that is random.
        width, depth: its multiples, where not the yaml's.
    """
    data = yaml.safe_load(file.read_text(errors="ignore"))
    data["width_multiple"] = width or data["width_multiple"]
    data["depth_multiple"] = depth or data["depth_multiple"]
    torch.manual_seed(seed)
    model = build_model(data)
    randomise_norms_(model)
    return model.eval()


def table(files: list[Path]) -> str:
    """The rows of docs/models.md."""
    head = ["model", "BNs", "channels", *RESIDUAL, "params, M", "left", "MACs, G", "left", "parity"]
    rows = [head, ["---"] * len(head)]
    for file in tqdm(files, unit="model"):
        model = build(file)
        graphs = [channel_graph(model, residual) for residual in RESIDUAL]
        graph = graphs[0]
        shares = [f"{g.prunable_channels / g.channels:.0%}" for g in graphs]
        report = prune(model, 0.5, round_to=16).report
        before, after = report.before, report.after
        rows.append(
            [
                file.stem,
                str(len(graph.norms)),
                str(graph.channels),
                *shares,
                f"{before.params / 1e6:.2f}",
                f"{after.params / before.params:.0%}",
                f"{before.macs / 1e9:.1f}",
                f"{after.macs / before.macs:.0%}",
                f"{report.parity:.0e}",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def everything(files: list[Path]) -> None:
    """Each model at each share in each residual mode; a line a model."""
    for file in files:
        start, model, worst = time.monotonic(), build(file), 0.0
        for residual in RESIDUAL:
            for share in SHARES:
                pruned = prune(model, share, residual=residual, round_to=1, imgsz=64)
                again = prune(pruned.model, 0.3, residual=residual, imgsz=64)
                worst = max(worst, pruned.parity.error, again.parity.error)
        print(f"{file.stem:<22}{worst:.0e}  {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="replace the table in this page")
    parser.add_argument("--all", action="store_true", help="all shares in all residual modes")
    parser.add_argument("--only", default="", help="models whose name holds this")
    opt = parser.parse_args()
    logging.disable(logging.INFO)
    files = [file for file in zoo() if opt.only in file.stem]
    if opt.all:
        everything(files)
        return
    text = table(files)
    if opt.write:
        page = opt.write.read_text()
        first, last = page.index("| model |"), page.rindex("|\n") + 2
        opt.write.write_text(page[:first] + text + page[last:])
    print(text)


if __name__ == "__main__":
    main()
