"""What a teacher added to the loss, epoch by epoch: a line in the log, a row, TensorBoard."""

from __future__ import annotations

from yolo_slim.distill.loss import PARTS
from yolo_slim.host.loops import keep_rows
from yolo_slim.host.training import LOGGER, Run

CSV = "distillation.csv"


def record(run: Run, parts: dict[str, float]) -> None:
    """Write one epoch.

    Args:
        run: on the main rank, after the epoch's validation.
        parts: of `PARTS`, means over the epoch as they stand in the loss of an image.
    """
    file = run.folder / CSV
    if not file.is_file():
        file.write_text(",".join(["epoch", *PARTS]) + "\n")
    keep_rows(file, run.epoch)  # the run may have gone back
    with file.open("a") as out:
        out.write(",".join([str(run.epoch), *(f"{parts[name]:.5g}" for name in PARTS)]) + "\n")
    LOGGER.info("distillation: " + ", ".join(f"{name} {parts[name]:.4f}" for name in PARTS))
    if run.board:
        for name in PARTS:
            run.board.add_scalar(f"distillation/{name}", parts[name], run.epoch)
