"""What the tests share: a model of seconds, its checkpoint, a data set of 64 px, the real data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from _common import randomise_norms_
from device_tables import write_table
from torch import nn

from yolo_slim import load, prune, save
from yolo_slim.cli import run
from yolo_slim.host.classes import common, yolo
from yolo_slim.page import write
from yolo_slim.shapes import NAMES, make_shapes

TINY = """
nc: 4
depth_multiple: 0.33
width_multiple: 0.25
anchors:
  - [10, 13, 16, 30, 33, 23]
  - [30, 61, 62, 45, 59, 119]
  - [116, 90, 156, 198, 373, 326]
backbone:
  - [-1, 1, Conv, [32, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [64, 3, 2]]  # 1
  - [-1, 3, C3, [64]]  # 2
  - [-1, 1, Conv, [128, 3, 2]]  # 3
  - [-1, 6, C3, [128]]  # 4, two Bottlenecks
  - [-1, 1, Conv, [128, 3, 2]]  # 5
  - [-1, 1, Conv, [256, 3, 2]]  # 6
  - [-1, 1, SPPF, [256, 5]]  # 7
head:
  - [-1, 1, Conv, [128, 1, 1]]  # 8
  - [-1, 1, nn.Upsample, [None, 2, nearest]]  # 9
  - [[-1, 5], 1, Concat, [1]]  # 10
  - [-1, 3, C3, [128, False]]  # 11
  - [[4, 11, 7], 1, Detect, [nc, anchors]]  # 12, strides 8, 16, 32
"""
MASKS = 8  # YOLOv5's own have 32
TINY_SEG = TINY.replace("Detect, [nc, anchors]", f"Segment, [nc, anchors, {MASKS}, 32]")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Each test begins with the same seed, and leaves the host's default and log as they are."""
    torch.manual_seed(0)
    usual, log = common.Conv.default_act, yolo.LOGGER
    level, silent = log.level, log.disabled
    yield
    left, common.Conv.default_act = common.Conv.default_act, usual
    assert left is usual
    assert (log.level, log.disabled) == (level, silent)
    assert not any(handler.level for handler in logging.getLogger().handlers)  # pytest's


_PAGES = {"left": False}


@pytest.fixture(scope="session", autouse=True)
def _no_pages() -> Iterator[None]:
    """Runs leave no page, which takes seconds, but in tests that are marked with `page`."""
    leave = write.leave_page

    def leave_page(*args: Any, **options: Any) -> None:
        if _PAGES["left"]:
            leave(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "leave_page", leave_page)
        yield


@pytest.fixture(autouse=True)
def _pages(request: pytest.FixtureRequest) -> Iterator[None]:
    """See `_no_pages`."""
    _PAGES["left"] = request.node.get_closest_marker("page") is not None
    yield
    _PAGES["left"] = False


@pytest.fixture
def tiny_yaml() -> dict[str, Any]:
    """A detector of 3 scales and 4 classes that trains an epoch in seconds."""
    return yaml.safe_load(TINY)


def build_tiny(seed: int = 0) -> nn.Module:
    """TINY with random weights and random BN statistics, named as the shapes, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = yolo.DetectionModel(yaml.safe_load(TINY))
        randomise_norms_(model)
    model.names = dict(enumerate(NAMES))
    return model.eval()


@pytest.fixture(scope="session")
def _tiny() -> nn.Module:
    return build_tiny()


@pytest.fixture
def tiny_model(_tiny: nn.Module) -> nn.Module:
    """A fresh copy, to be changed at will."""
    return deepcopy(_tiny)


@pytest.fixture(scope="session")
def _tiny_seg() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = yolo.SegmentationModel(yaml.safe_load(TINY_SEG))
        randomise_norms_(model)
    model.names = dict(enumerate(NAMES))
    return model.eval()


@pytest.fixture
def tiny_seg(_tiny_seg: nn.Module) -> nn.Module:
    return deepcopy(_tiny_seg)


@pytest.fixture(scope="session")
def tiny_checkpoint(_tiny: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a checkpoint; not to be changed."""
    return save(_tiny, tmp_path_factory.mktemp("tiny") / "tiny.pt")


def shapes_in(base: Path, polygons: bool) -> Path:
    """16 + 8 shapes at 64 px, and the data yaml beside them."""
    folder = make_shapes(base / "shapes", train=16, val=8, size=64, polygons=polygons)
    data = {"path": str(folder), "train": "images/train", "val": "images/val"}
    file = base / "shapes.yaml"
    file.write_text(yaml.safe_dump({**data, "names": dict(enumerate(NAMES))}))
    return file


@pytest.fixture(scope="session")
def shapes_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data yaml of 16 + 8 shapes at 64 px."""
    return shapes_in(tmp_path_factory.mktemp("data"), polygons=False)


@pytest.fixture(scope="session")
def seg_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with outlines."""
    return shapes_in(tmp_path_factory.mktemp("outlines"), polygons=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real data and weights beside the clone."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there")
    return folder


@pytest.fixture(scope="session")
def pruned_tiny(tiny_checkpoint: Path) -> Path:
    """The tiny model without 30% of its prunable channels, as a checkpoint."""
    file = tiny_checkpoint.with_name("pruned.pt")
    return save(prune(load(tiny_checkpoint).model, 0.3, imgsz=64), file)


@pytest.fixture(scope="session")
def tiny_workload(tiny_checkpoint: Path) -> Path:
    """What `profile --prepare` writes for the tiny model at 64 px; the script lies beside it."""
    file = tiny_checkpoint.with_name("workload.zip")
    argv = [str(tiny_checkpoint), "--imgsz", "64", "--prepare", str(file)]
    assert run("profile", argv) == 0
    return file


@pytest.fixture(scope="session")
def tiny_table(_tiny: nn.Module, tiny_checkpoint: Path) -> Path:
    """A made-up table of a device for the tiny model at 64 px, see `device_tables`."""
    return write_table(tiny_checkpoint.with_name("made.json"), _tiny)


def leftovers(folder: Path) -> list[Path]:
    """Files and run folders; an empty runs/ may stay."""
    return sorted(p for p in folder.rglob("*") if p.is_file() or p.name.startswith("exp"))


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing in it; tmp_path is above it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def refused(empty_folder: Path, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """Run a command that must refuse, in an empty folder; returns its one line."""

    def check(command: str, *argv: object) -> str:
        before = leftovers(empty_folder)
        capfd.readouterr()
        try:
            code = run(command, [str(a) for a in argv])
        except SystemExit as error:  # argparse
            code = error.code
        text = capfd.readouterr().err
        lines = [line for line in text.splitlines() if line.strip()]
        assert (code, len(lines)) == (2, 1), f"exit code {code}:\n{text}"
        assert "Traceback" not in text
        assert leftovers(empty_folder) == before
        return lines[0]

    return check


@pytest.fixture
def options(tiny_checkpoint: Path, pruned_tiny: Path, shapes_yaml: Path) -> dict[str, list]:
    """Options with which each command would run."""
    data = ["--data", shapes_yaml]
    train = [*data, "--imgsz", 64, "--epochs", 1, "--batch-size", 8, "--workers", 0]
    return {
        "sparse": ["--weights", tiny_checkpoint, *train],
        "prune": ["--weights", tiny_checkpoint, *data, "--imgsz", 64],
        "finetune": ["--weights", pruned_tiny, *train],
        "export": ["--weights", pruned_tiny, *data, "--imgsz", 64, "--repeats", 0],
    }


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For small models, whose threads wait for each other, and for sums equal to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """interrupt(n): the training stops as by Ctrl-C when its epoch n begins."""

    def at(epoch: int) -> None:
        from yolo_slim.host import training

        count = iter(range(epoch))

        def stop(self: Any, hook: str, *args: Any, **kwargs: Any) -> None:
            if hook == "on_train_epoch_start" and next(count, None) is None:
                raise KeyboardInterrupt
            return original(self, hook, *args, **kwargs)

        original = training.Callbacks.run
        monkeypatch.setattr(training.Callbacks, "run", stop)

    yield at
