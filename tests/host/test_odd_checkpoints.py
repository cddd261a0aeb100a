"""Checkpoints as people have them: wrapped, masked, misnamed, with NaN; and files that are none."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import onnx
import pytest
import torch
from conftest import build_tiny
from pickles import pickled, renamed
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.nn.utils import prune as torch_prune

from yolo_slim import InputError, load, prune, save
from yolo_slim.cli import run
from yolo_slim.file_kinds import other_kind
from yolo_slim.host.checkpoint import safe_loading
from yolo_slim.host.classes import common
from yolo_slim.weight_masks import masks_of

IMAGE = torch.rand(1, 3, 64, 64)
OPENING = ["prune", "export", "inspect", "bench", "val", "detect", "sensitivity", "finegrained"]
OPENING += ["sparse", "slim", "finetune", "finetune --teacher", "slim --teacher"]


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IMAGE)[0]


@pytest.fixture
def each_command(refused, shapes_yaml, pruned_tiny, tiny_checkpoint) -> Callable[[Path], list[str]]:
    """Run every command that opens a checkpoint on a file; returns what each says."""
    data = ["--data", shapes_yaml]
    train = [*data, "--imgsz", 64, "--epochs", 2, "--batch-size", 8, "--workers", 0]

    def lines(file: Path) -> list[str]:
        found = []
        for command in OPENING:
            name, _, option = command.partition(" ")
            plain = ["inspect", "bench", "sensitivity", "finegrained"]
            argv = [file] if name in plain else ["--weights", file]
            if option:
                own = pruned_tiny if name == "finetune" else tiny_checkpoint
                argv = ["--weights", own, option, file]
            argv += {
                "detect": ["--source", shapes_yaml.parent],
                "prune": [*data, "--imgsz", 64],
            }.get(name, data if name in ("val", "sensitivity") else [])
            argv += train if name in ("sparse", "slim", "finetune") else []
            found.append(refused(name, *argv))
        return found

    return lines


# NaN and Inf


def test_nan_is_named_in_every_command(each_command, tiny_model, tmp_path) -> None:
    tiny_model.model[4].cv1.bn.running_mean[3] = float("nan")
    torch.save({"model": tiny_model}, tmp_path / "nan.pt")
    for line in each_command(tmp_path / "nan.pt"):
        assert "nan.pt: NaN in model.4.cv1.bn.running_mean (1 of 16 values), expected" in line


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_values_that_are_no_numbers(dtype, value, tiny_model, tmp_path) -> None:
    tiny_model.to(dtype)
    for layer in (1, 3):
        tiny_model.model[layer].conv.weight.data[0, 1, 2, 2] = value
    torch.save({"model": tiny_model}, tmp_path / "bad.pt")
    kind = "NaN" if value != value else "Inf"
    text = rf"{kind} in model\.1\.conv\.weight \(1 of 1,152 values\), and in 1 tensor more"
    with pytest.raises(InputError, match=text):
        load(tmp_path / "bad.pt")


def test_what_is_no_fault(tiny_model, tmp_path) -> None:
    """Large weights, empty statistics of nothing, a count of batches; NaN in the other model."""
    tiny_model.model[1].conv.weight.data[0] = 3e38
    tiny_model.model[1].bn.num_batches_tracked += 2**40
    worse = deepcopy(tiny_model)
    nn.init.constant_(worse.model[0].conv.weight, float("nan"))
    optimizer = {"state": {0: {"momentum_buffer": torch.tensor(float("nan"))}}}
    torch.save({"model": worse, "ema": tiny_model, "optimizer": optimizer}, tmp_path / "large.pt")
    assert load(tmp_path / "large.pt").model.model[1].conv.weight[0, 0, 0, 0] == torch.tensor(3e38)


def test_a_training_does_not_go_on_from_nan(tiny_model, options, refused, tmp_path) -> None:
    """YOLOv5 goes on from the model, not from its EMA; and it takes a .pt alone."""
    worse = deepcopy(tiny_model)
    nn.init.constant_(worse.model[0].conv.weight, float("nan"))
    torch.save({"model": worse, "ema": tiny_model, "epoch": 3}, tmp_path / "last.pt")
    line = refused("sparse", *options["sparse"], "--weights", tmp_path / "last.pt")
    assert "last.pt: NaN in model.0.conv.weight (864 of 864 values)" in line
    torch.save({"model": tiny_model}, tmp_path / "weights.pth")
    line = refused("sparse", *options["sparse"], "--weights", tmp_path / "weights.pth")
    assert "a name that ends in .pth, expected a .pt" in line


def test_negative_variance(tiny_model, tmp_path) -> None:
    tiny_model.model[1].bn.running_var[2] = -0.5
    torch.save({"model": tiny_model}, tmp_path / "bad.pt")
    text = r"a negative variance in model\.1\.bn\.running_var \(-0\.5\)"
    with pytest.raises(InputError, match=text):
        load(tmp_path / "bad.pt")


# Masks of torch.nn.utils.prune


def masked(model: nn.Module) -> nn.Module:
    """Every kind of pruning, several on a weight, a bias, and one class of the user's."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    torch_prune.l1_unstructured(layers[0], "weight", 0.5)
    torch_prune.random_unstructured(layers[0], "weight", 0.2)
    torch_prune.ln_structured(layers[1], "weight", 0.25, n=2, dim=0)
    torch_prune.random_structured(layers[2], "weight", 0.25, dim=0)
    torch_prune.identity(layers[3], "weight")
    torch_prune.custom_from_mask(layers[4], "weight", torch.rand_like(layers[4].weight) > 0.5)
    torch_prune.l1_unstructured(model.model[-1].m[0], "bias", 0.5)
    torch_prune.l1_unstructured(model.model[1].bn, "weight", 0.5)
    several = [(layers[5], "weight"), (layers[6], "weight")]
    torch_prune.global_unstructured(several, torch_prune.L1Unstructured, amount=0.3)
    return model


@pytest.mark.parametrize("half", [False, True])
def test_attached_masks_open(half, tiny_model, tmp_path) -> None:
    expected = output(masked(tiny_model).half().float() if half else masked(tiny_model))
    torch.save({"model": tiny_model.half() if half else tiny_model}, tmp_path / "masked.pt")
    model = load(tmp_path / "masked.pt").model
    assert torch.equal(output(model), expected)
    assert not any(k.endswith(("_orig", "_mask")) for k in model.state_dict())
    assert not any(m._forward_pre_hooks for m in model.modules())
    masks = masks_of(model)
    assert len(masks) == 8 and not any(mask.all() for mask in masks.values())  # identity is none
    named = dict(model.named_parameters())
    assert all((named[name][~mask] == 0).all() for name, mask in masks.items())
    again = load(save(model, tmp_path / "again.pt")).model
    assert masks_of(again).keys() == masks.keys()
    pruned = prune(model, 0.3, imgsz=64)
    assert pruned.parity.holds and masks_of(pruned.model)
    with safe_loading():  # what YOLOv5's training reads
        assert torch.load(tmp_path / "masked.pt")["model"].state_dict().keys() == named.keys() | {
            name for name, _ in model.named_buffers()
        }


def test_masks_stay_in_a_training(tiny_model, shapes_yaml, empty_folder) -> None:
    torch.save({"model": masked(tiny_model)}, "masked.pt")
    train = ["--data", shapes_yaml, "--imgsz", 64, "--epochs", 1, "--batch-size", 8]
    train += ["--workers", 0, "--noplots", "--weights", "masked.pt"]
    assert run("finetune", list(map(str, train))) == 0
    trained = load("runs/finetune/exp/weights/best.pt").model
    masks = masks_of(load("masked.pt").model)
    assert {k: m.tolist() for k, m in masks_of(trained).items()} == {
        k: m.tolist() for k, m in masks.items()
    }


def test_masks_that_do_not_fit(tiny_model, tmp_path) -> None:
    torch_prune.identity(tiny_model.model[1].conv, "weight")
    tiny_model.model[1].conv._buffers["weight_mask"] = torch.ones(3)
    torch.save({"model": tiny_model}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"Conv2d\.weight: pruned without its mask"):
        load(tmp_path / "odd.pt")
    del tiny_model.model[1].conv._buffers["weight_mask"]
    torch.save({"model": tiny_model}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"Conv2d\.weight: pruned without its mask"):
        load(tmp_path / "odd.pt")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm])
def test_computed_weights_are_named(wrap, tiny_model, tmp_path) -> None:
    wrap(tiny_model.model[1].conv)
    file = tmp_path / "normed.pt"
    file.write_bytes(pickled({"model": tiny_model}))
    with pytest.raises(InputError, match="weight_norm|spectral_norm") as error:
        load(file)
    assert "\n" not in str(error.value)
    torch.save(tiny_model.state_dict(), file)
    with pytest.raises(InputError, match="without an architecture"):
        load(file)


def test_parametrizations_of_a_state_dict(tiny_model, tiny_yaml, tmp_path) -> None:
    parametrizations.weight_norm(tiny_model.model[1].conv)
    torch.save(tiny_model.state_dict(), tmp_path / "normed.pt")
    text = r"parametrizations\.weight\.original0: under torch\.nn\.utils\.parametrize"
    with pytest.raises(InputError, match=text):
        load(tmp_path / "normed.pt", cfg=tiny_yaml)


# What is wrapped around a model


def wrapped(model: nn.Module, file: Path) -> dict[str, object]:
    with safe_loading():
        served = common.DetectMultiBackend(str(file), fuse=False)
    auto = common.AutoShape(served, verbose=False)
    parallel = nn.DataParallel(model)
    return {
        "AutoShape": common.AutoShape(deepcopy(model), verbose=False),
        "AutoShape of DetectMultiBackend": auto,
        "DetectMultiBackend": served,
        "in a dict": {"model": auto, "epoch": 3},
        "as the EMA": {"model": None, "ema": auto},
        "DataParallel": parallel,
        "DataParallel of AutoShape": nn.DataParallel(common.AutoShape(model, verbose=False)),
    }


@pytest.mark.parametrize("clone", [False, True])
def test_wrappers_open_to_their_model(clone, tiny_model, tiny_checkpoint, tmp_path) -> None:
    expected = output(load(tiny_checkpoint).model)
    for name, value in wrapped(tiny_model, tiny_checkpoint).items():
        content = pickled(value)
        if clone:
            for old in ("yolov5.models.", "yolov5.utils."):
                content = renamed(content, old, old.removeprefix("yolov5."))
            content = renamed(content, "yolo_slim.host.checkpoint\n", "models.experimental\n")
            content = renamed(
                content, "yolo_slim.host.compat\nlocal_file", "utils.downloads\nattempt_download"
            )
        (tmp_path / "wrapped.pt").write_bytes(content)
        found = load(tmp_path / "wrapped.pt")
        assert torch.equal(output(found.model), expected), name
        assert type(found.model).__name__ == "DetectionModel"
        assert found.names == {0: "circle", 1: "square", 2: "triangle", 3: "cross"}
        found.model.train()
        assert [t.shape[1] for t in found.model(IMAGE)] == [3, 3, 3]  # and it trains
        with safe_loading():
            assert torch.load(tmp_path / "wrapped.pt")["model"].yaml == found.yaml


def test_autoshape_of_a_fused_model(tiny_model, tmp_path) -> None:
    """As torch.hub makes it of a checkpoint: it has no BatchNorm any more."""
    torch.save(common.AutoShape(tiny_model.fuse(), verbose=False), tmp_path / "hub.pt")
    with pytest.raises(InputError, match=r"a fused model .* as torch\.hub .*the \.pt that was"):
        load(tmp_path / "hub.pt")


def test_wrapper_without_a_model(tmp_path) -> None:
    shape = common.AutoShape.__new__(common.AutoShape)
    nn.Module.__init__(shape)
    torch.save({"model": shape}, tmp_path / "empty.pt")
    with pytest.raises(InputError, match="without a PyTorch model"):
        load(tmp_path / "empty.pt")


# Names


@pytest.mark.parametrize(
    ("names", "line", "read"),
    [
        (["a", "b"], "2 names {}; the others are called class2 to class3", "a b class2 class3"),
        ({0: "a", 1: "b", 3: "d"}, "3 names {}; the other is called class2", "a b class2 d"),
        (list("abcdefgh"), "8 names {}; the first 4 are taken", "a b c d"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit(names, line, read, tiny_model, tmp_path, capfd, shapes_yaml) -> None:
    tiny_model.names = names
    torch.save({"model": tiny_model}, tmp_path / "names.pt")
    assert list(load(tmp_path / "names.pt").names.values()) == read.split()
    line = line.format("for 4 classes")
    assert capfd.readouterr().err == f"note: {tmp_path / 'names.pt'}: {line}\n"
    options = ["--weights", str(tmp_path / "names.pt"), "--source", str(shapes_yaml.parent)]
    options += ["--imgsz", "64", "--project", str(tmp_path / "seen"), "--conf-thres", "0.001"]
    options[3] = str(shapes_yaml.parent / "shapes" / "images" / "val")
    assert run("detect", options) == 0  # it looks up each class that it sees


# Files of other programs


def _zip(file: Path, *names: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def _onnx(file: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(n, 1, [1]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), file, format="protobuf")


def _safetensors(file: Path) -> None:
    head = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    file.write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 3952441\n"
XML = '<?xml version="1.0"?>\n<net name="main_graph" version="11">\n'
OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an ONNX model": (_onnx, "a.pt"),
    "a file of safetensors": (_safetensors, "a.pt"),
    "a pointer of Git LFS": (lambda f: f.write_text(POINTER), "a.pt"),
    "a page of HTML": (lambda f: f.write_text("\n<!DOCTYPE html><html>404"), "a.pt"),
    "an OpenVINO model": (lambda f: f.write_text(XML), "a.pt"),
    "a yaml": (lambda f: f.write_text("# of mine\nnc: 3\nbackbone:\n"), "a.pt"),
    "a text file ('0 0.5 0.5 0.1 0.1'...)": (lambda f: f.write_text("0 0.5 0.5 0.1 0.1\n"), "a.pt"),
    "a TensorFlow Lite model": (lambda f: f.write_bytes(b"\x1c\0\0\0TFL3" + bytes(9)), "a.pt"),
    "a TensorFlow model": (lambda f: f.write_bytes(b"\n\x1f\n\x01x" + bytes(9)), "a.pb"),
    "a TensorRT engine": (lambda f: f.write_bytes(b"ftrt" + bytes(60)), "a.pt"),
    "an image": (lambda f: f.write_bytes(b"\xff\xd8\xff\xe0" + bytes(60)), "a.pt"),
    "a numpy array": (lambda f: f.write_bytes(b"\x93NUMPY\x01\x00"), "a.pt"),
    "a file of numpy arrays": (lambda f: _zip(f, "a.npy", "b.npy"), "a.pt"),
    "a zip archive with best.pt in it": (lambda f: _zip(f, "read.me", "best.pt"), "a.pt"),
    "a zip archive with word/x.xml in it": (lambda f: _zip(f, "word/x.xml"), "a.pt"),
    "a tar archive": (lambda f: f.write_bytes(bytes([97]) * 257 + b"ustar" + bytes(99)), "a.pt"),
    "a gzip archive": (lambda f: f.write_bytes(b"\x1f\x8b\x08" + bytes(60)), "a.pt"),
    "nothing but zeros": (lambda f: f.write_bytes(bytes(4096)), "a.pt"),
    "a Python pickle": (lambda f: f.write_bytes(b"\x80\x04\x95" + bytes(60)), "a.pt"),
    "Darknet weights": (lambda f: f.write_bytes(b"\0\0\0\0\2\0\0\0\5\0\0\0" * 3), "a.weights"),
    "a folder": (Path.mkdir, "a.pt"),
    "an empty file": (Path.touch, "a.pt"),
    "neither a file nor a folder": (os.mkfifo, "a.pt"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_other_programs_are_named(kind, refused, tmp_path) -> None:
    make, name = OTHERS[kind]
    make(tmp_path / name)
    line = refused("prune", "--weights", tmp_path / name)
    assert line.startswith(f"error: {tmp_path / name}: {kind}"), line
    assert "damaged" not in line and "expected a YOLOv5 checkpoint" in line
    with pytest.raises(InputError, match="expected a YOLOv5 checkpoint"):
        load(tmp_path / name)


def test_checkpoints_are_of_no_other_kind(tiny_checkpoint, tmp_path, shared) -> None:
    old = tmp_path / "old.pt"
    torch.save({"a": torch.zeros(9)}, old, _use_new_zipfile_serialization=False)
    torch.save(torch.zeros(1), tmp_path / "bin.bin")
    for file in (tiny_checkpoint, shared / "weights" / "yolov5n.pt", old, tmp_path / "bin.bin"):
        assert other_kind(file) is None


@pytest.mark.parametrize("command", ["val", "detect", "inspect", "bench", "export", "sparse"])
def test_an_onnx_file_named_pt_in_each_command(command, refused, tmp_path) -> None:
    _onnx(tmp_path / "model.pt")
    file = tmp_path / "model.pt"
    argv = [file] if command in ("inspect", "bench") else ["--weights", file]
    assert "model.pt: an ONNX model, expected a YOLOv5 checkpoint (.pt)" in refused(command, *argv)


def test_models_of_ultralytics(tmp_path, refused) -> None:
    """Named as their pickles name them; the classes themselves are not needed."""
    content = pickled({"epoch": -1, "model": build_tiny()})
    for old, new in (("models.yolo\nDetectionModel", "nn.tasks\nDetectionModel"),):
        content = renamed(content, f"yolov5.{old}", f"ultralytics.{new}")
    (tmp_path / "yolov8n.pt").write_bytes(content)
    line = refused("prune", "--weights", tmp_path / "yolov8n.pt")
    assert "a model of the ultralytics package (YOLOv8 and later, or a u model" in line
    assert "expected a model of YOLOv5 7.0 or before" in line and "--modules" not in line


@pytest.mark.parametrize("value", [None, 123, b"a.pt", "", ["a.pt"], torch.zeros(2)], ids=str)
def test_what_is_no_path(value) -> None:
    with pytest.raises(InputError, match="expected") as error:
        load(value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(refused, tmp_path) -> None:
    (tmp_path / "exp" / "weights").mkdir(parents=True)
    (tmp_path / "exp" / "weights" / "best.pt").touch()
    expected = {
        "yolov5n.pt": "no such file, expected a YOLOv5 checkpoint (.pt): download it from",
        "https://a.b/yolov5s.pt": "an address, expected",
        tmp_path / "exp": f"a folder, expected .*such as {tmp_path}/exp/weights/best.pt",
        "a" * 300: "File name too long",
    }  # fmt: skip
    import re

    for name, text in expected.items():
        line = refused("prune", "--weights", name)
        assert re.search(text.replace("(.pt)", r"\(.pt\)"), line), line
