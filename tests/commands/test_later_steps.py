"""Options of a training that a later step reads: refused before the first epoch, or they work."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml
from p6 import p6_yaml

from yolo_slim import load, prune, save
from yolo_slim.cli import run
from yolo_slim.errors import InputError
from yolo_slim.host.checkpoint import save_model
from yolo_slim.host.options import HYP, check_batch
from yolo_slim.models.model import build_model

SMALL = ["--workers", "0", "--noplots", "--batch-size", "8", "--epochs", "1"]
CUT = ["--macs", "0.7", "--round-to", "1", "--calib-images", "4"]


def words(*argv: object) -> list[str]:
    return [str(word) for word in argv]


@pytest.fixture
def p6(tiny_yaml: dict[str, Any], tmp_path: Path) -> Path:
    """A checkpoint whose stride is 64."""
    return save(build_model(p6_yaml(tiny_yaml)).eval(), tmp_path / "p6.pt")


# All classes as one


@pytest.fixture(scope="module")
def single(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """best.pt of a slim of one epoch with --single-cls, cut by a criterion that reads labels."""
    project = tmp_path_factory.mktemp("single")
    argv = words("--weights", tiny_checkpoint, "--data", shapes_yaml, "--img", 64, *SMALL, *CUT)
    argv += words("--single-cls", "--st", "--epochs", 2, "--project", project)
    assert run("slim", argv) == 0
    return project / "exp" / "best.pt"


def test_labels_of_many_classes_for_a_cut(
    tiny_yaml: dict[str, Any], shapes_yaml: Path, tmp_path: Path
) -> None:
    """slim --single-cls by a criterion that asks for labels; weights of one class are cut first."""
    one = save(build_model({**tiny_yaml, "nc": 1}).eval(), tmp_path / "one.pt")
    argv = words("--weights", one, "--data", shapes_yaml, "--img", 64, *SMALL, *CUT)
    argv += words("--single-cls", "--criterion", "taylor", "--project", tmp_path)
    assert run("slim", argv) == 0
    report = json.loads((tmp_path / "exp" / "report.json").read_text())
    assert report["rounds"][0]["epoch"] == 0 and report["rounds"][0]["cut"]["criterion"] == "taylor"


def test_each_step_after_single_cls(
    single: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    data = words("--data", shapes_yaml, "--img", 64)
    cut = words("--weights", single, *data, *CUT, "--workers", 0)
    assert run("prune", [*cut, "--criterion", "taylor"]) == 0
    pruned = "runs/prune/exp/pruned.pt"
    capsys.readouterr()
    assert run("finetune", words("--weights", pruned, *data, *SMALL)) == 0
    best = "runs/finetune/exp/weights/best.pt"
    assert load(best).names == {0: "item"}
    options = words("--include", "onnx", "--repeats", 0, "--images", 2)
    assert run("export", words("--weights", best, *data, *options)) == 0
    scan = words("--kind", "channels", "--shares", 0.5, "--images", 4, "--criterion", "taylor")
    assert run("sensitivity", [best, *data, *scan]) == 0
    assert run("finegrained", words(best, *data, "--repeats", 0, "--workers", 0)) == 0
    assert run("val", words("--weights", best, *data, "--workers", 0)) == 0


def test_single_cls_of_a_model_of_many(refused: Any, options: dict[str, list]) -> None:
    line = refused("finetune", *options["finetune"], "--single-cls")
    assert "--single-cls: given for a model of 4 classes, expected no such option" in line


# The image size and the stride


@pytest.mark.parametrize("command", ["slim", "sparse", "finetune"])
def test_an_image_size_between_two_strides(
    command: str, refused: Any, p6: Path, shapes_yaml: Path, tmp_path: Path
) -> None:
    """YOLOv5 would train at 128 px, and the next step would be told 96."""
    weights = p6
    if command == "finetune":
        weights = save(prune(load(p6).model, 0.3, imgsz=128), tmp_path / "pruned.pt")
    argv = ["--weights", weights, "--data", shapes_yaml, *SMALL]
    line = refused(command, *argv, "--img", 96)
    assert "--imgsz: 96, expected a multiple of the stride, 64" in line
    line = refused(command, *argv, "--img", 64)
    assert "--imgsz: 64, expected 128 or more: YOLOv5 trains at no less" in line


def test_a_yaml_of_another_stride(
    refused: Any, tiny_yaml: dict[str, Any], tiny_checkpoint: Path, shapes_yaml: Path
) -> None:
    """--cfg says what is trained, --weights alone do not."""
    Path("p6.yaml").write_text(yaml.safe_dump(p6_yaml(tiny_yaml)))
    argv = ["--cfg", "p6.yaml", "--weights", tiny_checkpoint, "--data", shapes_yaml, *SMALL]
    for command in ("slim", "sparse"):
        line = refused(command, *argv, "--epochs", 2, "--img", 96)
        assert "--imgsz: 96, expected a multiple of the stride, 64" in line


def test_slim_of_a_stride_of_64(p6: Path, shapes_yaml: Path, tmp_path: Path) -> None:
    argv = words("--weights", p6, "--data", shapes_yaml, "--img", 128, *SMALL, *CUT)
    assert run("slim", [*argv, "--project", str(tmp_path)]) == 0


def test_an_image_size_that_yolov5_rounded_up(
    p6: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch
) -> None:
    """A checkpoint of YOLOv5's own training says what was asked for: 96, trained at 128."""
    monkeypatch.chdir(tmp_path)
    train = {"imgsz": 96, "data": str(shapes_yaml)}
    file = str(save_model(load(p6).model, tmp_path / "rounded.pt", opt=train))
    assert run("prune", words("--weights", file, "--percent", 0.3, "--criterion", "l2")) == 0
    assert run("export", words("--weights", file, "--include", "onnx", "--repeats", 0)) == 0
    report = json.loads(Path("runs/export/exp/report.json").read_text())
    assert report["options"]["imgsz"] == [128, 128]


# The head, the batches, the files


@pytest.mark.parametrize("command", ["slim", "finetune"])
def test_another_number_of_anchors(
    command: str, refused: Any, options: dict[str, list], tiny_checkpoint: Path
) -> None:
    """YOLOv5 would build another head, which the cut model has not."""
    hyp = yaml.safe_load(HYP.read_text()) | {"anchors": 4}
    Path("hyp.yaml").write_text(yaml.safe_dump(hyp))
    argv = options["finetune"]
    argv = argv if command == "finetune" else ["--weights", tiny_checkpoint, *argv[2:]]
    line = refused(command, *argv, "--hyp", "hyp.yaml")
    assert "hyp.yaml, anchors: 4, expected 3, as the model that was cut has, or no" in line


def test_weights_and_a_yaml_of_another_cut(
    refused: Any, options: dict[str, list], tiny_model: Any
) -> None:
    from yolo_slim.models.pruned_yaml import write_yaml

    Path("other.yaml").write_text(write_yaml(prune(tiny_model, 0.1, imgsz=64).yaml))
    line = refused("finetune", *options["finetune"], "--cfg", "other.yaml")
    assert "--cfg other.yaml: model." in line and "expected the pruned.yaml of these" in line


@pytest.mark.parametrize(("images", "last"), [(9, 1), (11, 3), (3, 3)])
def test_quad_with_a_small_last_batch(images: int, last: int) -> None:
    """YOLOv5 makes one image of four, and fails where fewer are left in mid-epoch."""
    opt = Namespace(quad=True, batch_size=8, device="")
    with pytest.raises(InputError, match=f"the last batch of {images} images? has {last}"):
        check_batch(opt, images)
    for enough in (8, 12, 15, 16):
        check_batch(opt, enough)


def test_batches_are_shared_by_the_gpus() -> None:
    with pytest.raises(InputError, match="--batch-size: 9, expected a multiple of 2, the GPUs"):
        check_batch(Namespace(quad=False, batch_size=9, device="0,1"), 16)


def test_nothing_saved_but_the_end(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch
) -> None:
    """--nosave: the last epoch may not be the best, so that there is no best.pt."""
    argv = words("--weights", tiny_checkpoint, "--data", shapes_yaml, "--img", 64, *SMALL, *CUT)
    argv += words("--epochs", 2, "--nosave", "--project", tmp_path)
    monkeypatch.setattr("yolo_slim.commands.finetune.Finetuning.fitness", falling)
    assert run("slim", argv) == 0
    weights = tmp_path / "exp" / "train1" / "weights"
    assert sorted(file.name for file in weights.iterdir()) == ["last.pt"]
    assert load(tmp_path / "exp" / "best.pt").epoch == -1


def falling(self: Any, step: Any, fitness: Any) -> float:
    """Worth less from epoch to epoch."""
    return 1.0 / (1 + step.epoch)


def test_another_run_is_not_written_over(refused: Any, options: dict[str, list]) -> None:
    folder = Path("runs/slim/exp")
    folder.mkdir(parents=True)
    (folder / "slim.json").write_text("{}")
    argv = ["--weights", options["sparse"][1], *options["sparse"][2:], "--exist-ok"]
    line = refused("slim", *argv)
    assert "--exist-ok: runs/slim/exp, expected another --name, or --resume" in line


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--patience -1", "--patience: -1, expected 0 or more"),
        ("--freeze -1", "--freeze: -1, expected 0 or more"),
        ("--label-smoothing 1", "--label-smoothing: 1.0, expected a number in [0, 1)"),
        ("--epochs 1.5", "'1.5', expected a whole number"),
        ("--quad --batch-size 6", "--quad: given with --batch-size 6, expected a multiple of 4"),
        ("--name .", "--name: '.', expected the name of a folder"),
        ("--cache disc", "--cache: disc, expected ram or disk"),
        ("--freeze 13", "--freeze: 13, which leaves no layer to train, expected fewer than all 13"),
        (f"--freeze {' '.join(map(str, range(13)))}", "which leaves no layer to train"),
        ("--hyp still.yaml", "--hyp still.yaml: momentum: 0, expected more: YOLOv5's SGD is that"),
        ("--roboflow_upload", "--roboflow_upload: given, expected no upload"),
        ("--hf_model_id a/b", "HF_HUB_OFFLINE=0 in the environment"),
        ("--quad --batch-size 2", "--quad: given with --batch-size 2, expected a multiple of 4"),
        ("--cfg folder", "--cfg folder: a folder, expected a yaml file"),
        ("--hyp folder", "--hyp folder: a folder, expected a yaml file"),
        ("--data text.yaml", "text.yaml: a str, expected a data yaml"),
    ],
)
def test_refused_at_once(given: str, expected: str, refused: Any, options: dict[str, list]) -> None:
    Path("folder").mkdir()
    Path("text.yaml").write_text("hello")
    Path("still.yaml").write_text(re.sub("(?m)^momentum: .*", "momentum: 0", HYP.read_text()))
    for command in ("sparse", "finetune"):
        assert expected in refused(command, *options[command], *given.split())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--batch-size 7", "--batch-size: 7, expected a multiple of 2: it is shared by torchrun"),
        ("--batch-size -1", "--batch-size: -1, expected a multiple of 2"),
        ("--image-weights", "--image-weights: given, expected no such option under torchrun"),
    ],
)
def test_what_several_processes_do_not_do(
    given: str, expected: str, refused: Any, options: dict[str, list], monkeypatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert expected in refused("sparse", *options["sparse"], *given.split())


def test_weights_of_another_suffix(
    refused: Any, options: dict[str, list], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(tiny_checkpoint.read_bytes())
    line = refused("sparse", *options["sparse"], "--weights", file)
    assert "model.pth: a name that ends in .pth, expected a .pt file" in line


@pytest.mark.parametrize("command", ["slim", "sparse", "finetune"])
def test_a_save_period_of_none(command: str, options: dict[str, list], empty_folder: Path) -> None:
    """YOLOv5 says that less than 1 is none, and divides by 0."""
    argv = options.get(command) or [*options["sparse"], *CUT]
    assert run(command, words(*argv, "--save-period", 0, "--noplots")) == 0
    assert not list(Path("runs").rglob("epoch*.pt"))
