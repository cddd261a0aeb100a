"""Values and layers that are well-formed, and that a later step would stumble over."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from torch import nn

from yolo_slim import InputError, SparsityPenalty, calibrate, channel_graph, prune, save
from yolo_slim.cli import COMMANDS
from yolo_slim.host.command_line import default_hyp
from yolo_slim.parsing import OneLineParser


def with_bias(conv: nn.Conv2d) -> nn.Conv2d:
    return nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 1)


def reflecting(conv: nn.Conv2d) -> nn.Conv2d:
    sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 1)
    return nn.Conv2d(*sizes, bias=False, padding_mode="reflect")


@pytest.mark.parametrize(
    ("change", "got"),
    [(with_bias, "bias True, where the yaml"), (reflecting, "padding_mode reflect, where the")],
)
def test_a_conv_that_no_yaml_builds(
    change, got, tiny_model: nn.Module, shapes_yaml: Path, tmp_path: Path, refused
) -> None:
    """It was lost in a training, and ended a cut in a traceback."""
    model = deepcopy(tiny_model)
    model.model[1].conv = change(model.model[1].conv)
    with pytest.raises(InputError, match=f"^model.1.conv: {got}"):
        prune(model, 0.5, criterion="l2", imgsz=64)
    file, data = save(model, tmp_path / "odd.pt"), ["--data", shapes_yaml]
    assert f"model.1.conv: {got}" in refused("prune", "--weights", file, "--criterion", "l2")
    train = ["--weights", file, *data, "--imgsz", 64, "--epochs", 1, "--workers", 0]
    assert f"model.1.conv: {got}" in one_line(refused, "sparse", *train)


def one_line(refused, command: str, *argv: object) -> str:
    """What a training ends with: YOLOv5 has said what it is about to do."""
    try:
        return refused(command, *argv)
    except AssertionError as error:
        assert "exit code 2" in str(error) and "Traceback" not in str(error)
        return str(error)


@pytest.mark.parametrize(
    "line",
    ["lr0: -1", "momentum: 1.5", "weight_decay: -5", "mosaic: 2", "scale: 3", "anchors: [3]"],
)
def test_hyps_out_of_range(line: str, options: dict, refused, tmp_path: Path) -> None:
    hyp = yaml.safe_load(default_hyp().read_text()) | yaml.safe_load(line)
    file = tmp_path / "hyp.yaml"
    file.write_text(yaml.safe_dump(hyp))
    told = refused("sparse", *options["sparse"], "--hyp", file)
    assert f"--hyp {file}: {line}, expected " in told


NO_NAMES = {  # of a folder, and what is expected in their place
    **dict.fromkeys(["a\nb", "a\rb", "a\tb", "a\x1b[0m", "a\0b", "a\u2028b", "a\udcff"], "control"),
    **dict.fromkeys(["a ", " a", "a\u3000"], "a name without a space at an end"),
    **dict.fromkeys(["-a", "--data"], "a name that begins otherwise"),
    **dict.fromkeys(["x" * 300, "\u00e4" * 130], "240 bytes at most"),
}
NO_FOLDERS = dict.fromkeys(["", " ", ".", "..", "a/b", "../a", "/a"], "the name of a folder")


@pytest.mark.parametrize("value", [*NO_NAMES, *NO_FOLDERS], ids=ascii)
def test_a_name_that_no_run_can_have(value: str) -> None:
    """The options of all commands that write a run's folder are parsed by one class."""
    parser = OneLineParser()
    for name in ("--project", "--name"):
        parser.add_argument(name, default="exp")
    with pytest.raises(InputError, match=(NO_NAMES | NO_FOLDERS)[value]) as refusal:
        parser.parse_args([f"--name={value}"])
    assert len(str(refusal.value).splitlines()) == 1
    if value in NO_NAMES:
        with pytest.raises(InputError, match=NO_NAMES[value]):
            parser.parse_args([f"--project={value}"])
    elif value.strip():
        assert parser.parse_args([f"--project={value}"]).project == value


NAMELESS = ("bench", "profile", "report")  # that write no run


@pytest.mark.parametrize("command", [n for n in COMMANDS if n not in NAMELESS])
def test_a_name_of_two_lines(command: str, refused, tiny_checkpoint: Path) -> None:
    first = {"inspect", "curve", "sensitivity", "finegrained"}  # take the weights without an option
    words = [] if command == "demo" else [tiny_checkpoint]
    words = ["--weights"] * (command not in first | {"demo"}) + words
    words += ["--data", "d.yaml"] * (command in ("curve", "sensitivity"))
    line = refused(command, *words, "--name", "a\nb")
    assert r"--name: 'a\nb', expected a name without line ends" in line


def test_the_home_of_nobody(options: dict, shapes_yaml: Path, refused, tmp_path: Path) -> None:
    sets = yaml.safe_load(shapes_yaml.read_text()) | {"path": "~nobody-here/sets"}
    file = tmp_path / "home.yaml"
    file.write_text(yaml.safe_dump(sets))
    assert "is not there" in refused("prune", *options["prune"], "--data", file)


@pytest.mark.parametrize("model", [None, "best.pt", {"model.0.conv.weight": 0}])
def test_what_is_no_model(model: object, shapes_yaml: Path) -> None:
    for call in (
        lambda: channel_graph(model),
        lambda: SparsityPenalty(model),
        lambda: save(model, "out.pt"),
        lambda: calibrate(shapes_yaml, model, imgsz=64),
    ):
        with pytest.raises(InputError, match="^model: "):
            call()
