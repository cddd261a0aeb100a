"""Pictures of val and detect: all are there, or the run says which are not."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_slim.errors import InputError
from yolo_slim.host.drawn import pictures_written

from yolov5.utils import TryExcept, threaded  # isort: skip  # behind the mends
from yolov5.utils.plots import Annotator  # isort: skip


def limited(folder: Path, bytes_a_file: int, *argv: object) -> subprocess.CompletedProcess:
    """A command in a process that can write no larger files, as on a disk that is nearly full."""
    return subprocess.run(
        [sys.executable, "-m", "yolo_slim", *map(str, argv)],
        cwd=folder,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file,) * 2),
    )


def test_detect_on_a_full_disk(tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path) -> None:
    images = next(shapes_yaml.parent.rglob("images/val"))
    argv = ("detect", "--weights", tiny_checkpoint, "--source", images, "--imgsz", 64)
    run = limited(tmp_path, 300, *argv)
    last = run.stderr.strip().splitlines()[-1]
    assert (run.returncode, last.startswith("error: runs/detect/exp/")) == (2, True), run.stderr
    assert "cannot be written, expected a folder that can be written to" in last
    assert not list(tmp_path.rglob("*.jpg")) or all(
        file.stat().st_size == 300 for file in tmp_path.rglob("*.jpg")
    )


def test_val_on_a_full_disk(tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path) -> None:
    argv = (
        "val",
        "--weights",
        tiny_checkpoint,
        "--data",
        shapes_yaml,
        "--imgsz",
        64,
        "--workers",
        0,
    )
    run = limited(tmp_path, 8000, *argv)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr + run.stdout
    assert (
        run.stderr.strip()
        .splitlines()[-1]
        .startswith(
            "error: runs/val/exp: a picture cannot be written (File too large), expected a folder"
        )
    )


def test_ctrl_c_within_a_plot() -> None:
    with pytest.raises(KeyboardInterrupt), pictures_written([]), TryExcept("a plot failed"):
        raise KeyboardInterrupt


def test_what_is_no_fault_of_the_disk_is_forgiven(capsys: pytest.CaptureFixture) -> None:
    """As in the host: a plot that fails is told of."""
    with pictures_written([]), TryExcept("a plot failed"):
        raise ValueError("no data")
    assert capsys.readouterr().out == "a plot failed: no data\n"


def test_a_thread_that_fails_for_another_reason(caplog: pytest.LogCaptureFixture) -> None:
    @threaded
    def fail() -> None:
        raise ValueError("no data")

    with pictures_written([]):
        fail()
    assert "a picture failed: no data" in caplog.text


def test_threads_of_others_are_not_waited_for() -> None:
    """A loader's, which copies to a GPU, does not end before its process."""
    stop = threading.Event()
    with pictures_written([]):
        threading.Thread(target=stop.wait, daemon=True).start()
    assert not stop.is_set()
    stop.set()


def test_threads_are_waited_for(tmp_path: Path) -> None:
    @threaded
    def draw() -> None:
        never.wait(0.2)
        cv2.imwrite(str(tmp_path / "late.png"), np.zeros((8, 8, 3), np.uint8))

    @threaded
    def fail() -> None:
        raise OSError(28, "No space left on device")

    never = threading.Event()
    with pictures_written([tmp_path]):
        draw()
        assert not (tmp_path / "late.png").exists()
    assert (tmp_path / "late.png").exists()
    with pytest.raises(InputError, match="a picture cannot be written .No space left on device"):  # noqa: SIM117
        with pictures_written([tmp_path]):
            fail()
    with pytest.raises(InputError, match="no/such.png: cannot be written"), pictures_written([]):
        cv2.imwrite(str(tmp_path / "no" / "such.png"), np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "name",
    ["Red\u00a0cell", "a\u2028b", "line1\nline2 \u7ea2", "\u200b", "it's <b>", "\u7ea2\u2028x"],
)
def test_names_that_python_escapes(name: str) -> None:
    """They end in no traceback, and something is drawn."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    annotator = Annotator(pixels, line_width=3, example=str({0: name}))
    annotator.box_label([10, 30, 60, 60], f"{name} 0.50", color=(255, 255, 255))
    assert np.asarray(annotator.result())[:28].any()  # above the box
    annotator.box_label([10, 30, 60, 60], None, color=(255, 255, 255))  # --hide-labels
