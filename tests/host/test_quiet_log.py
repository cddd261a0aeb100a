"""YOLOv5's log of a training: what tells nothing about the model is left out, the rest stays."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from yolo_slim.cli import run
from yolo_slim.host.quiet_log import quiet

NOISE = ("ClearML", "Comet", "TensorBoard", "lr0=", "weights=", "Plotting labels", "New cache")
KEPT = ("Epoch", "box_loss", "all ", "Model summary: ", "optimizer:", "Starting training for 1")


@pytest.mark.parametrize("segments", [False, True])
def test_of_a_training(
    segments: bool,
    request: pytest.FixtureRequest,
    empty_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = request.getfixturevalue("seg_yaml" if segments else "shapes_yaml")
    cfg = ["--cfg", "yolov5n-seg.yaml" if segments else "yolov5n.yaml"]
    small = ["--img", "64", "--epochs", "1", "--batch-size", "8", "--workers", "0"]
    with caplog.at_level(logging.INFO):
        assert run("sparse", [*cfg, "--data", str(data), *small]) == 0
    for text in NOISE:
        assert text not in caplog.text
    for text in KEPT:
        assert text in caplog.text
    place = caplog.text.partition("Options: opt.yaml and hyp.yaml in ")[2].split("\n")[0]
    assert Path(place, "opt.yaml").is_file() and Path(place, "hyp.yaml").is_file()


def test_warnings_stay_and_the_filter_goes(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some.host")
    with caplog.at_level(logging.INFO), quiet(logger, Path):
        logger.info("Comet: run 'pip install comet_ml'")
        logger.info("\x1b[34m\x1b[1mtrain: \x1b[0mweights=, cfg=yolov5n.yaml, data=a b.yaml")
        logger.info("segment/train: st=False, sr=auto")
        logger.info("freezing model.0.conv.weight")
        logger.info("train: Scanning labels")
        logger.warning("ClearML: run out of space")
    assert caplog.messages == [
        "freezing model.0.conv.weight",
        "train: Scanning labels",
        "ClearML: run out of space",
    ]
    assert not logger.filters
