"""What bench refuses, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper
from onnx_files import write_onnx

from yolo_slim import load, save
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.host.classes import yolo

pytestmark = pytest.mark.usefixtures("one_thread")


BAD = [
    (["none.pt"], "none.pt: no such file"),
    (["none.onnx"], "none.onnx: no such file, expected what export writes for ONNX Runtime"),
    (["none_openvino_model"], "none_openvino_model: no such file, expected what export writes for"),
    (["half_openvino_model"], "half_openvino_model/half.xml: OpenVINO refuses it"),
    (["empty_openvino_model"], "empty_openvino_model: 0 files *.xml in it, expected one"),
    (["text_openvino_model"], "text_openvino_model/a.xml: no network of OpenVINO"),
    (["cut_openvino_model"], "cut_openvino_model/a.xml: OpenVINO refuses it"),
    (["text.torchscript"], "text.torchscript: PyTorch refuses it"),
    (["."], ".: a folder, expected a checkpoint (.pt), or one of *.onnx, "),
    (["text.pt"], "not a checkpoint"),
    (["text.onnx"], "text.onnx: ONNX Runtime refuses it"),
    (["empty.onnx"], "empty.onnx: an empty file, expected what export writes for ONNX Runtime"),
    (["cut.onnx"], "cut.onnx: ONNX Runtime refuses it"),
    (["flat.onnx"], "flat.onnx: it takes [1, 8], expected images, (batch, 3, height, width)"),
    (["odd.onnx"], "odd.onnx: ONNX Runtime refuses it"),
    (["foreign.onnx"], "foreign.onnx: ONNX Runtime refuses it"),
    (["tiny.onnx", "--imgsz", "96"], "tiny.onnx, --imgsz: 64 is fixed in it, 96 given"),
    (["tiny.onnx", "--batch-size", "2"], "tiny.onnx, --batch-size: 1 is fixed in it, 2 given"),
    (["tiny.onnx", "other.onnx"], "other.onnx, --imgsz: 96 is fixed in it, 64 given or fixed"),
    (["tiny.onnx", "wide.onnx"], "wide.onnx, --imgsz: 8 16 is fixed in it, 64 given or fixed"),
    (["wide.onnx", "--imgsz", "8"], "wide.onnx, --imgsz: 8 16 is fixed in it, 8 given"),
    (["tiny.onnx", "--layers"], "--layers: given for exported files alone"),
    (
        ["tiny.onnx", "--runtime", "torch", "openvino"],
        "--runtime: torch openvino, in which none of the files runs, expected onnx",
    ),
    (["tiny.onnx", "--json", "."], "--json: ., a folder, expected a file to write"),
    (["tiny.onnx", "--json", "text.pt/a.json"], "text.pt: cannot be written"),
    (["tiny.pt", "--imgsz", "100"], "--imgsz: 100, expected a multiple of the stride, 32"),
    (["tiny.pt", "--imgsz", "64", "100"], "--imgsz: 100, expected a multiple of the stride, 32"),
    (["tiny.pt", "--imgsz", "0"], "--imgsz: 0, expected 1 or more"),
    (["tiny.pt", "--imgsz", "64", "64", "64"], "--imgsz: 64 64 64, expected one number, or height"),
    (["--imgsz", "tiny.pt"], "--imgsz: 'tiny.pt', expected a whole number"),
    (["tiny.pt", "--batch-size", "0"], "--batch-size: 0, expected 1 or more"),
    (["tiny.pt", "--repeats", "1"], "--repeats: 1, expected 2 or more"),
    (["tiny.pt", "--threads", "0"], "--threads: 0, expected 1 or more"),
    (["tiny.pt", "--runtime", "cuda"], "invalid choice: 'cuda'"),
    (["grey.pt"], "grey.pt: images of 1 channel, expected 3, RGB"),
    ([], "the following arguments are required: FILE"),
]


@pytest.fixture(scope="module")
def bad_files(tiny_checkpoint, tmp_path_factory) -> Path:
    """Files that bench must refuse, and tiny.pt and tiny.onnx that it takes."""
    folder = tmp_path_factory.mktemp("bad")
    content = to_onnx(load(tiny_checkpoint).model, imgsz=64)
    (folder / "text.pt").write_text("a text")
    (folder / "text.onnx").write_text("a text")
    (folder / "empty.onnx").touch()
    (folder / "cut.onnx").write_bytes(content[: len(content) // 2])
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    write_onnx(folder / "wide.onnx", relu, {}, [1, 3, 8, 16], "y")
    write_onnx(folder / "flat.onnx", relu, {}, [1, 8], "y")
    write_onnx(folder / "other.onnx", relu, {}, [1, 3, 96, 96], "y")
    odd = [helper.make_node("Conv", ["x", "w"], ["y"])]  # weights of another number of channels
    write_onnx(folder / "odd.onnx", odd, {"w": (4, 5, 1, 1)}, [1, 3, 8, 8], "y")
    other = [helper.make_node("Lens", ["x"], ["y"])]
    write_onnx(folder / "foreign.onnx", other, {}, [1, 3, 8, 8], "y")
    (folder / "tiny.onnx").write_bytes(content)
    (folder / "text.torchscript").write_text("a text")
    for name in ("half", "empty", "text", "cut"):
        (folder / f"{name}_openvino_model").mkdir()
    (folder / "text_openvino_model" / "a.xml").write_text("a text")
    whole = FORMATS["openvino"].write(load(tiny_checkpoint).model, ExportOptions((64, 64)))
    (folder / "half_openvino_model" / "half.xml").write_bytes(whole[".xml"])
    (folder / "cut_openvino_model" / "a.xml").write_bytes(whole[".xml"][:5000])
    (folder / "cut_openvino_model" / "a.bin").write_bytes(whole[".bin"])
    (folder / "tiny.pt").write_bytes(tiny_checkpoint.read_bytes())
    return folder


@pytest.mark.parametrize(("argv", "expected"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input(argv, expected, bad_files, refused, empty_folder, tiny_yaml) -> None:
    for file in bad_files.iterdir():
        (empty_folder / file.name).symlink_to(file)
    if "grey.pt" in argv:
        save(yolo.DetectionModel({**tiny_yaml, "ch": 1}, ch=1), argv[0])
    assert expected in refused("bench", *argv)
