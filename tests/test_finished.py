"""Which run a folder is of, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from yolo_slim import prune, save
from yolo_slim.errors import InputError
from yolo_slim.finished import finished_run


def cut(folder: Path, model: nn.Module, weights: Path) -> Path:
    """A folder as `prune` leaves it, as far as it is read."""
    folder.mkdir(parents=True)
    save(prune(model, 0.5, imgsz=64), folder / "pruned.pt")
    content = {"weights": str(weights), "options": {"macs": 0.5}, "layers": []}
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def test_a_cut_by_its_folder_or_a_file_in_it(
    tiny_model: nn.Module, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = cut(tmp_path / "exp", tiny_model, tiny_checkpoint)
    for place in (folder, folder / "pruned.pt", folder / "report.json"):
        run = finished_run(place)
        assert (run.kind, run.folder, run.result) == ("prune", folder, folder / "pruned.pt")
        assert run.dense == tiny_checkpoint and run.options["macs"] == 0.5


def test_a_model_that_is_gone_is_none(tiny_model: nn.Module, tmp_path: Path) -> None:
    folder = cut(tmp_path / "exp", tiny_model, tmp_path / "gone.pt")
    assert finished_run(folder).dense is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"options": 3}'])
def test_damaged_reports_are_one_line(
    text: str, tiny_model: nn.Module, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = cut(tmp_path / "exp", tiny_model, tiny_checkpoint)
    (folder / "report.json").write_text(text)
    with pytest.raises(InputError):
        finished_run(folder)


def test_a_training_that_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "opt.yaml").write_text("weights: a.pt\nsave_dir: runs/train/exp\n")
    with pytest.raises(InputError, match="a run that is not finished"):
        finished_run(tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match="without a model that was cut"):
        finished_run(tmp_path)
    (tmp_path / "report.json").unlink()
    with pytest.raises(InputError, match="a folder of no run that is known"):
        finished_run(tmp_path)
