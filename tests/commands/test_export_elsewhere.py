"""What YOLOv5's export.py has and ours has not: every option and format, with what to use."""

from __future__ import annotations

import pytest

from yolo_slim.commands.export_elsewhere import FORMATS_ELSEWHERE, OPTIONS
from yolo_slim.commands.export_options import check, parse
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend
from yolo_slim.host.sources import declared_options

SHARED = {"--data", "--weights", "--imgsz", "--batch-size", "--dynamic", "--opset", "--include"}
SHARED |= {"--half", "--int8", "--nms", "--agnostic-nms", "--conf-thres", "--iou-thres"}


def test_each_option_of_the_host_is_known() -> None:
    flags = {flags[0] for flags, _ in declared_options("export.py").values()}
    assert flags == SHARED | OPTIONS.keys()


def test_each_format_of_the_host_is_known() -> None:
    mend()
    from yolov5.export import export_formats

    theirs = set(export_formats()["Argument"]) - {"-"}
    assert theirs == FORMATS_ELSEWHERE.keys() | (FORMATS.keys() - {"stock", "ncnn", "litert"})


@pytest.mark.parametrize("flag", OPTIONS)
def test_an_option_is_refused_with_what_to_use(flag: str) -> None:
    instead, has_value = OPTIONS[flag]
    with pytest.raises(InputError) as error:
        parse([flag, *["1"] * has_value])
    assert str(error.value) == f"{flag}: given, expected {instead}"


def test_one_side_or_two(capsys: pytest.CaptureFixture) -> None:
    assert parse(["--imgsz", "96", "128"]).imgsz == [96, 128]
    assert parse(["--img-size", "96"]).imgsz == parse(["--img", "96"]).imgsz == [96]
    with pytest.raises(InputError, match="--imgsz: 96 128 160, expected one number, or height"):
        check(parse(["--imgsz", "96", "128", "160"]))
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert "--optimize" not in capsys.readouterr().out
