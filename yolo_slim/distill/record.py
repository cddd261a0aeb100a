"""How far a student is from its teachers, epoch by epoch: a line in the log, a row, TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

from yolo_slim.distill.loss import PARTS
from yolo_slim.host.loops import keep_rows
from yolo_slim.host.training import LOGGER, Run

CSV = "distillation.csv"
HINTS = "hints"
COLUMNS = (*PARTS, HINTS)


def record(run: Run, parts: dict[str, float]) -> None:
    """Write one epoch.

    Args:
        run: on the main rank, after the epoch's validation.
        parts: means over the epoch; of a teacher as they stand in the loss of an image, of hints
            the error of the feature maps, a share of their energy. One that is missing has ended.
    """
    file = run.folder / CSV
    if not file.is_file():
        file.write_text(",".join(["epoch", *COLUMNS]) + "\n")
    keep_rows(file, run.epoch)  # the run may have gone back
    values = [f"{parts[name]:.5g}" if name in parts else "" for name in COLUMNS]
    with file.open("a") as out:
        out.write(",".join([str(run.epoch), *values]) + "\n")
    for line in in_words(parts):
        LOGGER.info(line)
    if run.board:
        for name, value in parts.items():
            run.board.add_scalar(f"distillation/{name}", value, run.epoch)


def in_words(parts: Mapping[str, float]) -> list[str]:
    """What an epoch's figures mean, a line for the teacher and one for the hints."""
    lines = []
    if taught := [f"{name} {value:.4f}" for name, value in parts.items() if name != HINTS]:
        text = "as a loss of one image; 0: they say the same"
        lines.append(f"difference from the teacher: {', '.join(taught)} ({text})")
    if HINTS in parts:
        text = f"the feature maps differ by {parts[HINTS]:.1%} from those before the cut"
        lines.append(f"hints: {text} (squares of the values)")
    return lines
