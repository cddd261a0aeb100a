"""A run: what prune and evaluate say of each point, interruptions, and several processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_labels import IMGSZ, self_labelled

from yolo_slim import load
from yolo_slim.cli import run
from yolo_slim.curve.job import WORK, Worker, network_of
from yolo_slim.curve.points import read_curve
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.measure.cost import cost

pytestmark = pytest.mark.usefixtures("one_thread")
SHARES = ("0.8", "0.5")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and the data yaml of 6 images with what it finds on them as labels."""
    return self_labelled(tmp_path_factory.mktemp("labelled"), train=8)


def options(labelled: tuple[Path, Path], project: Path, *more: object) -> list[str]:
    fixed = [labelled[0], "--data", labelled[1], "--imgsz", IMGSZ, "--device", "cpu"]
    fixed += ["--shares", *SHARES, "--calib-images", 8, "--threads", 1, "--project", project]
    fixed += ["--processes", 1]
    return [str(word) for word in (*fixed, *more)]


def test_as_many_processes_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """But at most four, and on a GPU one."""
    from yolo_slim.commands.curve_options import parse, processes_of

    def usual(*more: str) -> int:
        return processes_of(parse(["a.pt", "--data", "b.yaml", *more]))

    for cores, expected in ((1, 1), (3, 3), (64, 4), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert usual("--device", "cpu") == expected
    assert usual("--device", "cpu", "--processes", "9") == 9
    monkeypatch.setattr("yolo_slim.host.evaluate.device_name", lambda _: "Tesla T4 (cuda:0)")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert usual() == 1


@pytest.fixture(scope="module")
def finished(labelled: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    base = tmp_path_factory.mktemp("finished")
    assert run("curve", options(labelled, base)) == 0
    return base / "exp"


def untimed(folder: Path) -> list[tuple]:
    """What does not hang on the clock, of each point."""
    points = read_curve(folder).points
    return [(p.key, p.share, p.imgsz, p.params, p.macs, p.map50, p.map) for p in points]


def test_the_files_of_a_run(finished: Path) -> None:
    assert {file.name for file in finished.iterdir()} == {
        "command.json",
        "curve.csv",
        "curve.json",
        "curve.png",
    }
    curve, content = read_curve(finished), json.loads((finished / "curve.json").read_text())
    assert [p.label for p in curve.points] == ["dense", "0.8", "0.5", "32 px"]
    assert curve.timed and all(p.latency and p.spread is not None for p in curve.points)
    assert content["finished"] and content["settings"] == dict(curve.settings)
    assert "this project measured it" in content["text"]


def test_dense_and_smaller_images_are_evaluations(
    finished: Path, labelled: tuple[Path, Path]
) -> None:
    curve, model = read_curve(finished), load(labelled[0]).model
    data = check_data(labelled[1], model.nc)
    for point in (curve.dense, *curve.of("size")):
        there = evaluate(model, data, imgsz=point.imgsz, workers=0, device="cpu")
        assert (point.map50, point.map) == (there.map50, there.map)
        assert point.macs == cost(model, point.imgsz).macs
    assert curve.dense.map50 > 0.9
    assert curve.of("size")[0].share == curve.of("size")[0].macs / curve.dense.macs


def test_a_cut_is_what_the_command_of_the_run_makes(
    finished: Path, labelled: tuple[Path, Path], empty_folder: Path
) -> None:
    command = json.loads((finished / "curve.json").read_text())["commands"]["prune"]
    words = command.split("prune.py ")[1].split()
    assert run("prune", [*words, "--device", "cpu", "--workers", "0"]) == 0
    report = json.loads(Path("runs/prune/exp/report.json").read_text())
    share = words[words.index("--macs") + 1]
    (point,) = [p for p in read_curve(finished).of("cut") if p.label == share]
    before, after = report["before"], report["after"]
    assert (after["macs"], after["params"]) == (point.macs, point.params)
    assert point.share == after["macs"] / before["macs"]
    made = evaluate(
        load("runs/prune/exp/pruned.pt").model,
        check_data(labelled[1]),
        imgsz=IMGSZ,
        workers=0,
        device="cpu",
    )
    assert (made.map50, made.map) == (point.map50, point.map)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Any]]:
    """stop(n): Ctrl-C before point n + 1 is measured; returns the list of those that were."""

    def at(count: int) -> list[Any]:
        done: list[Any] = []

        def call(worker: Worker, task: Any) -> Any:
            if len(done) == count:
                raise KeyboardInterrupt
            point = original(worker, task)
            done.append(point.key)
            return point

        monkeypatch.setattr(Worker, "__call__", call)
        return done

    original = Worker.__call__
    return at


def test_interrupted_and_resumed(
    finished: Path,
    labelled: tuple[Path, Path],
    tmp_path: Path,
    stop: Callable[[int], list[Any]],
    capsys: pytest.CaptureFixture,
) -> None:
    folder, argv = tmp_path / "exp", options(labelled, tmp_path)
    stop(0)
    assert run("curve", argv) == 130
    assert not folder.exists()
    stop(2)
    assert run("curve", argv) == 130
    assert f"--resume {folder} goes on" in capsys.readouterr().out
    assert {p.label for p in read_curve(folder).points} == {"dense", "0.8"}
    assert not (folder / "curve.json").exists()
    with (folder / "curve.csv").open("a") as file:
        file.write("cut,0.5,0.4")  # half a line
    lost = network_of(folder, ("cut", "0.8"))
    lost.write_bytes(lost.read_bytes()[:1000])  # cannot be timed any more
    for scores in (folder / WORK).glob("*.pt"):
        scores.write_bytes(scores.read_bytes()[:500])
    done = stop(9)
    assert run("curve", [*argv, "--resume"]) == 0
    assert done == [("cut", "0.8"), ("cut", "0.5"), ("size", "32 px")]
    assert untimed(folder) == untimed(finished)


def test_a_finished_run_that_lost_a_point_is_measured_again(
    finished: Path, labelled: tuple[Path, Path], tmp_path: Path
) -> None:
    """All times come from one run, so all of its points are."""
    folder = tmp_path / "exp"
    shutil.copytree(finished, folder)
    text = (folder / "curve.csv").read_text()
    (folder / "curve.csv").write_text(text[:-10])
    (folder / "curve.json").unlink()
    assert run("curve", options(labelled, tmp_path, "--resume", folder)) == 0
    assert untimed(folder) == untimed(finished) and (folder / "curve.json").is_file()


def test_a_finished_run_is_told_again(
    finished: Path, labelled: tuple[Path, Path], tmp_path: Path, stop: Callable[[int], list[Any]]
) -> None:
    shutil.copytree(finished, tmp_path / "exp")
    before = (finished / "curve.csv").read_bytes()
    done = stop(0)
    argv = options(labelled, tmp_path, "--resume", tmp_path / "exp")
    assert run("curve", argv) == 0
    assert done == [] and (tmp_path / "exp" / "curve.csv").read_bytes() == before


def test_two_processes_measure_what_one_does(
    finished: Path, labelled: tuple[Path, Path], tmp_path: Path
) -> None:
    assert run("curve", options(labelled, tmp_path, "--processes", 2)) == 0
    assert untimed(tmp_path / "exp") == untimed(finished)


def test_one_bar(labelled: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    argv = options(labelled, tmp_path, "--sizes", 32, "--images", 3)
    assert run("curve", argv) == 0
    out, err = capfd.readouterr()
    bars = {
        line.split(":")[0].strip() for line in err.replace("\r", "\n").split("\n") if "|" in line
    }
    assert bars == {"curve"} and "left" in err
    assert "cut to 0.5" in out and "Next: yolo-slim slim --weights" in out
    assert read_curve(tmp_path / "exp").settings["images"] == "3"
