"""curve: what it refuses in a line, tables of devices, and finished runs in the picture."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from own_labels import IMGSZ, self_labelled
from torch import nn

from yolo_slim import save
from yolo_slim.cli import run
from yolo_slim.curve.points import SETTINGS, read_curve, write_curve
from yolo_slim.shapes import NAMES

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def argv(tiny_checkpoint: Path, shapes_yaml: Path) -> list[object]:
    return [tiny_checkpoint, "--data", shapes_yaml, "--imgsz", IMGSZ, "--device", "cpu"]


REFUSED = [
    (["--shares", "0.5", "1"], "--shares: 1.0, expected shares in (0, 1)"),
    (["--shares", "0.9999999"], "--shares: 1.0, expected shares in (0, 1)"),
    (["--shares", "70"], "--shares: 70.0, expected shares in (0, 1) (did you mean 0.7?)"),
    (["--shares", "0.001"], "--macs: "),
    (["--sizes", "33"], "--sizes: 33, expected multiples of the stride, 32"),
    (["--sizes", "64"], "--sizes: 64, expected multiples of 32 below the 64 px"),
    (["--images", "0"], "--images: 0, expected 1 or more"),
    (["--calib-images", "0"], "--calib-images: 0, expected 1 or more"),
    (["--processes", "0"], "--processes: 0, expected 1 or more"),
    (["--threads", "0"], "--threads: 0, expected 1 or more"),
    (["--imgsz", "100"], "--imgsz: 100, expected a multiple of the stride"),
    (["--data", "none.yaml"], "none.yaml: no such file"),
    (["--device", "none.json"], "none.json: no such file"),
    (["--device", "cuda:77"], "--device: cuda:77"),
    (["--resume", "nowhere"], "--resume: nowhere, expected the folder of a curve"),
    (["--resume"], "--resume: no run to go on with in runs/curve"),
    (["--trained", "nowhere"], "nowhere: no such folder"),
]


@pytest.mark.parametrize(("more", "expected"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_refused(
    more: list[str], expected: str, argv: list[object], refused: Callable[..., str]
) -> None:
    assert expected in refused("curve", *argv, *more)


def changed(shapes_yaml: Path, file: Path, **entries: object) -> Path:
    """A data yaml with other entries."""
    file.write_text(yaml.safe_dump({**yaml.safe_load(shapes_yaml.read_text()), **entries}))
    return file


def test_data_that_does_not_fit(
    argv: list[object], shapes_yaml: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    two = changed(shapes_yaml, tmp_path / "two.yaml", names=["a", "b"])
    assert "two.yaml: 2 classes, expected the 4 of the model" in refused(
        "curve", *argv, "--data", two
    )
    (tmp_path / "empty").mkdir()
    none = changed(shapes_yaml, tmp_path / "none.yaml", val=str(tmp_path / "empty"))
    assert "no images in" in refused("curve", *argv, "--data", none)
    shutil.copytree(Path(yaml.safe_load(shapes_yaml.read_text())["path"]), tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "labels" / "val")
    bare = changed(shapes_yaml, tmp_path / "bare.yaml", path=str(tmp_path / "bare"))
    assert "expected an image with a label" in refused("curve", *argv, "--data", bare)


def test_a_model_that_finds_nothing(
    tiny_model: nn.Module, argv: list[object], tmp_path: Path, refused: Callable[..., str]
) -> None:
    for conv in tiny_model.model[-1].m:
        nn.init.constant_(conv.bias, -20.0)
    weights = save(tiny_model, tmp_path / "blind.pt")
    assert "blind.pt: mAP50 0 on these images" in refused("curve", weights, *argv[1:])


def test_runs_that_do_not_fit(
    argv: list[object],
    pruned_tiny: Path,
    tiny_checkpoint: Path,
    shapes_yaml: Path,
    tmp_path: Path,
    refused: Callable[..., str],
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    assert "a folder of no run that is known" in refused("curve", *argv, "--trained", folder)
    (folder / "pruned.pt").write_bytes(pruned_tiny.read_bytes())
    other = changed(shapes_yaml, tmp_path / "other.yaml", names=[*NAMES[:3], "else"])
    report = {"weights": str(tiny_checkpoint), "options": {"data": str(other)}}
    (folder / "report.json").write_text(json.dumps(report))
    line = refused("curve", *argv, "--trained", folder)
    assert line == f"error: {folder}: a run of other data ({other}), expected one of {shapes_yaml}"
    (folder / "report.json").unlink()
    (folder / "slim.json").write_text("{}")
    line = refused("curve", *argv, "--trained", folder)
    assert "a run that is not finished" in line and "goes on" in line
    (folder / "slim.json").unlink()
    settings = dict.fromkeys(SETTINGS, "1")
    write_curve(folder / "curve.csv", settings, [])
    (folder / "curve.json").write_text("{}")
    assert "a run of curve, expected one that makes a model" in refused(
        "curve", *argv, "--trained", folder
    )


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_labelled(tmp_path_factory.mktemp("labelled"), train=4)


def test_by_a_table_with_a_finished_run(
    labelled: tuple[Path, Path],
    tiny_table: Path,
    empty_folder: Path,
    refused: Callable[..., str],
    capfd: pytest.CaptureFixture,
) -> None:
    """Shares and times are the table's; a run of the table's size has its time too."""
    weights, data = labelled
    common = ["--data", data, "--imgsz", IMGSZ, "--calib-images", 4]
    cut = ["--weights", weights, *common, "--macs", 0.7, "--criterion", "l2"]
    assert run("prune", [str(word) for word in cut]) == 0
    trained = ["--trained", "runs/prune/exp", "runs/prune/exp/pruned.pt"]
    table = ["--device", tiny_table, "--shares", 0.9, 0.8, "--sizes", 32, *trained]
    table += ["--processes", 1]
    assert run("curve", [str(word) for word in (weights, *common, *table)]) == 0
    curve = read_curve("runs/curve/exp")
    assert [p.label for p in curve.points] == ["dense", "0.9", "0.8", "32 px", "runs/prune/exp"]
    dense, (size,), (made,) = curve.dense, curve.of("size"), curve.of("trained")
    for point in curve.of("cut"):
        assert point.share == point.predicted / dense.predicted
        assert point.share <= float(point.label) + 1e-6
    assert size.predicted == pytest.approx(dense.predicted * size.latency / dense.latency)
    assert size.share == size.predicted / dense.predicted
    assert made.share == made.macs / dense.macs and made.predicted < dense.predicted
    out = " ".join(capfd.readouterr().out.split())
    assert "of the time" in out and f"--device {tiny_table}" in out
    assert "Of 1 finished run: runs/prune/exp has" in out
    assert f"Times by the table of {curve.settings['device']}" in out
    line = refused("curve", weights, *common, *table, "--threads", 2)
    assert "--threads: 2, with --device" in line


def test_resuming_another_run_is_refused(
    argv: list[object], tmp_path: Path, refused: Callable[..., str], tiny_checkpoint: Path
) -> None:
    from yolo_slim import load
    from yolo_slim.curve.points import Point
    from yolo_slim.numerics import digest

    dense = Point("dense", "dense", 1.0, 64, 1, 1, 1, None, None, None, 0.5, 0.4)
    known = dict.fromkeys(SETTINGS, "x")
    write_curve(tmp_path / "curve.csv", known, [dense])
    line = refused("curve", *argv, "--resume", tmp_path)
    assert "curve.csv: of another model (weights x), expected weights" in line
    known["digest"] = digest(load(tiny_checkpoint).model)
    write_curve(tmp_path / "curve.csv", known, [dense])
    line = refused("curve", *argv, "--resume", tmp_path)
    assert "made with data x, expected the same options" in line


def test_help_is_light() -> None:
    command = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); "
    command += "from yolo_slim.commands.curve_options import parse; parse(['--help'])"
    text = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout
    assert "--trained" in text
    assert text.endswith("False\n")
