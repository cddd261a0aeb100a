"""The page that runs leave, and the command that makes one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yolo_slim.cli import run
from yolo_slim.errors import InputError

SMALL = ["--imgsz", "64", "--macs", "0.7", "--round-to", "1", "--criterion", "l2"]


@pytest.fixture
def pruned(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a cut."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), *SMALL]
    assert run("prune", argv) == 0
    return tmp_path / "runs" / "prune" / "exp"


@pytest.mark.page
def test_a_cut_leaves_its_page(pruned: Path) -> None:
    page = (pruned / "report.html").read_text("utf-8")
    assert "The cut model takes" in page and "mAP50-95" in page
    assert len(page) < 5_000_000
    assert not [path for path in pruned.iterdir() if path.name.startswith(".")]


@pytest.mark.page
def test_no_page_where_none_is_wanted(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), *SMALL, "--no-page"]
    assert run("prune", argv) == 0
    assert not (tmp_path / "runs" / "prune" / "exp" / "report.html").exists()


@pytest.mark.page
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("val", "no images", "some"), "(val: no images, expected some)"),
        (KeyError("map"), "(KeyError: 'map')"),
    ],
)
def test_a_page_that_cannot_be_made_does_not_make_the_run_fail(
    error: Exception,
    told: str,
    tiny_checkpoint: Path,
    shapes_yaml: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("yolo_slim.page.write.page_of", refuse)
    argv = ["--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), *SMALL]
    assert run("prune", argv) == 0
    out = " ".join(capfd.readouterr().out.split())
    assert f"report.html was not written {told}" in out
    assert "yolo-slim report runs/prune/exp" in out and "Next:" in out


@pytest.mark.page
def test_a_finetuning_and_a_slim_leave_theirs(
    pruned: Path, tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path
) -> None:
    train = ["--data", str(shapes_yaml), "--img", "64", "--batch-size", "8", "--workers", "0"]
    train += ["--noplots", "--epochs", "1"]
    assert run("finetune", ["--weights", str(pruned / "pruned.pt"), *train]) == 0
    assert run("slim", ["--weights", str(tiny_checkpoint), *train, "--calib-images", "8"]) == 0
    for kind, name in (("finetune", "finetuned"), ("slim", "slim")):
        text = (tmp_path / "runs" / kind / "exp" / "report.html").read_text("utf-8")
        assert f"The {name} model takes" in text


def test_the_command_makes_it_from_any_place(
    pruned: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options = ["--repeats", "0", "--images", "4"]
    capfd.readouterr()
    assert run("report", [str(pruned / "pruned.pt"), *options]) == 0
    told = " ".join(capfd.readouterr().out.split())
    assert told == f"{pruned / 'report.html'}: open it in a browser"
    first = (pruned / "report.html").read_text("utf-8")
    assert "Counts over 4 of 8 validation images" in " ".join(first.split())
    assert run("report", [str(pruned), "-o", "pages/mine.html", *options]) == 0
    assert (tmp_path / "pages" / "mine.html").is_file()


def test_without_data_it_says_what_is_missing(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("prune", ["--weights", str(tiny_checkpoint), *SMALL]) == 0
    folder = tmp_path / "runs" / "prune" / "exp"
    assert run("report", [str(folder), "--repeats", "0"]) == 0
    assert "No mAP and no pictures" in (folder / "report.html").read_text("utf-8")
    argv = [str(folder), "--repeats", "0", "--data", str(shapes_yaml)]
    assert run("report", argv) == 0
    assert "No mAP and no pictures" not in (folder / "report.html").read_text("utf-8")


# Bad input


def test_bad_input(refused, tiny_checkpoint: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    assert "no such folder" in refused("report", "nothing")
    assert "a folder of no run that is known" in refused("report", there)
    assert "--images" in refused("report", there, "--images", "0")
    for images in ("few", "\u00b2", "\u0663", "9" * 5000):
        assert "--images" in refused("report", there, "--images", images)
    assert "--repeats" in refused("report", there, "--repeats", "-1")
    assert "--imgsz" in refused("report", there, "--imgsz", "33")
    assert "a folder, expected the name of a file" in refused("report", there, "-o", there)
    assert "no such file" in refused("report", there, "--data", "nothing.yaml")
    assert "RUN" in refused("report")


def test_a_page_takes_no_place_of_a_pipe(pruned: Path, capfd: pytest.CaptureFixture) -> None:
    os.mkfifo("pipe")
    capfd.readouterr()
    assert run("report", [str(pruned), "--repeats", "0", "--images", "1", "-o", "pipe"]) == 2
    assert "pipe: a device or a pipe, expected the name of a file" in capfd.readouterr().err
    assert Path("pipe").is_fifo()


def test_an_old_page_stays_whole(pruned: Path, tmp_path: Path) -> None:
    """What cannot be made does not touch what is there."""
    page = pruned / "report.html"
    page.write_text("old")
    assert run("report", [str(pruned), "--data", str(tmp_path / "no.yaml")]) == 2
    assert page.read_text() == "old"
