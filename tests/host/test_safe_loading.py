"""A checkpoint is data: what tries to run code is refused in one line and nothing runs."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
from argparse import Namespace
from collections import OrderedDict
from copy import deepcopy
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from pickles import pickled, renamed
from torch import nn

from yolo_slim import InputError, ModelPruned, load
from yolo_slim.cli import run
from yolo_slim.host.checkpoint import safe_loading
from yolo_slim.host.classes import common, yolo
from yolo_slim.host.yamls import check_model_yaml, parse_activation

REBUILD = torch._tensor._rebuild_from_type_v2  # torch's own list admits it; it calls its argument


class Call:
    """Pickles as the call func(*args), with the state set on the result."""

    def __init__(self, func, *args, state=None):
        self.call = (func, args) if state is None else (func, args, state)

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle wants what is called to be callable."""


def touch(marker: Path) -> str:
    return f"__import__('pathlib').Path({str(marker)!r}).touch()"


def visualizer() -> nn.Module:
    """A model whose forward(x, False, folder) writes pictures of x into the folder."""
    layer, model = nn.Identity(), yolo.BaseModel()
    layer.f, layer.i, layer.type = -1, 0, "x"
    model.model, model.save = nn.Sequential(layer), []
    return model


CODE = {  # name: what is pickled, given the marker that must not come to be
    "os.system": lambda m: Call(os.system, f"touch {m}"),
    "exec": lambda m: Call(exec, touch(m)),
    "eval": lambda m: Call(eval, touch(m)),
    "Popen": lambda m: Call(subprocess.Popen, ["touch", str(m)]),
    "inner load": lambda m: Call(
        torch.storage._load_from_bytes,
        pickled(Call(os.system, f"touch {m}"), _use_new_zipfile_serialization=False),
    ),
    "pickle.loads": lambda m: Call(pickle.loads, pickle.dumps(Call(exec, touch(m)))),
    "torch.hub": lambda m: Call(torch.hub.load, str(m.parent), "hubconf", "x", "local"),
    "torch.load": lambda m: Call(torch.load, str(m)),
    "partial": lambda m: Call(functools.partial(os.system, f"touch {m}")),
    "getattr": lambda m: Call(Call(getattr, Call(__import__, "os"), "system"), f"touch {m}"),
    "getattr of a class": lambda m: Call(Call(getattr, common.Conv, "__init__"), str(m)),
    "called by torch": lambda m: Call(REBUILD, os.system, torch.Tensor, (f"touch {m}",), {}),
    "called module": lambda m: Call(
        REBUILD, visualizer(), torch.Tensor, (torch.rand(1, 2, 4, 4), 0, PosixPath(m.parent)), {}
    ),
    "state": lambda m: {"model": Call(nn.Module, state={"forward": Call(exec, touch(m))})},
    "opened path": lambda m: Call(yolo.DetectionModel, str(m)),
    "opened pruned yaml": lambda m: Call(ModelPruned, str(m)),
    "DetectMultiBackend": lambda m: Call(common.DetectMultiBackend, str(m)),
    "numpy objects": lambda m: np.array([Call(exec, touch(m))], dtype=object),
    "numpy dtype": lambda m: np.dtype([("a", "f8")]),
    "Namespace": lambda m: Call(Namespace),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", CODE)
def test_code_is_refused_and_not_run(kind, legacy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file, marker = tmp_path / "bad.pt", tmp_path / "ran" / "marker"
    marker.parent.mkdir()
    payload = {"epoch": -1, "model": CODE[kind](marker), "ema": None}
    file.write_bytes(pickled(payload, _use_new_zipfile_serialization=not legacy))
    with pytest.raises(InputError, match="refused|not a checkpoint"):
        load(file)
    assert run("prune", ["--weights", str(file)]) == 2
    captured = capsys.readouterr()
    assert (len(captured.err.splitlines()), "Traceback" in captured.err) == (1, False)
    assert list(marker.parent.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir() if p != file] == ["ran"]


def test_torchscript_named_pt(tmp_path):
    torch.jit.script(nn.Identity()).save(tmp_path / "model.pt")
    with pytest.raises(InputError, match="a TorchScript archive"):
        load(tmp_path / "model.pt")


def evil_yamls(yaml: dict, marker: Path) -> dict[str, dict]:
    """Model yamls with a string that the host would evaluate, or a module that opens files."""
    code = touch(marker)
    first, found = yaml["backbone"][0], {}
    rows = {
        "module": [-1, 1, code, [32]],
        "argument": [-1, 1, "Conv", [32, code]],
        "nested argument": [-1, 1, "Conv", [32, [code]]],
        "builtin argument": [-1, 1, "nn.TransformerEncoderLayer", [8, 2, 16, 0.1, "breakpoint"]],
        "host's global": [-1, 1, "nn.Identity", ["check_yaml"]],
        "module that opens files": [-1, 1, "DetectMultiBackend", [[str(marker)]]],
        "model in a model": [-1, 1, "DetectionModel", [["x.yaml"]]],
        "dunder": [-1, 1, "nn.__builtins__", []],
        "nn.modules": [-1, 1, "nn.modules.container.Sequential", []],
        "function": [-1, 1, "check_yaml", ["x"]],
        "class": [-1, 1, nn.Identity, []],
        "from": [code, 1, "Conv", [32]],
        "number": [-1, code, "Conv", [32]],
        "arguments": [-1, 1, "Conv", code],
    }
    for name, row in rows.items():
        found[name] = {**yaml, "backbone": [first, row, *yaml["backbone"][1:]]}
    activations = {
        "activation": code,
        "activation call": f"nn.SiLU()({code})(1)",
        "activation callee": f"nn.SiLU({code}).forward(1)",
        "activation argument": f"nn.SiLU({code})",
        "activation keyword": f"nn.LeakyReLU(negative_slope={code})",
        "activation **": f"nn.SiLU(**{code})",
        "activation list": [code],
    }
    found |= {name: {**yaml, "activation": text} for name, text in activations.items()}
    for key in ("depth_multiple", "width_multiple", "nc", "anchors", "ch", "head"):
        found[key] = {**yaml, key: code}
    return found


EVIL = list(evil_yamls({"backbone": [[]]}, Path("x")))


@pytest.mark.parametrize("kind", EVIL)
def test_evil_yaml(kind, tiny_yaml, tiny_model, tmp_path):
    """As the yaml of a model, of a constructor call in a pickle, and in Python."""
    marker = tmp_path / "marker"
    yaml = evil_yamls(tiny_yaml, marker)[kind]
    for cls in (yolo.DetectionModel, ModelPruned):
        with pytest.raises(InputError):
            cls(deepcopy(yaml))
        torch.save({"model": Call(cls, yaml)}, tmp_path / "call.pt")
        with pytest.raises(InputError, match="refused"):
            load(tmp_path / "call.pt")
    tiny_model.yaml = yaml
    torch.save({"model": tiny_model}, tmp_path / "tampered.pt")
    with pytest.raises(InputError, match="refused"):
        load(tmp_path / "tampered.pt")
    assert not marker.exists()


def test_called_model_is_refused_under_its_old_name(tiny_yaml, tmp_path):
    """Even with a harmless yaml: no checkpoint calls a constructor."""
    content = pickled({"model": Call(yolo.DetectionModel, tiny_yaml)})
    for name in ("yolov5.models.yolo\nModel", "models.yolo\nModel", "models.yolo\nDetectionModel"):
        file = tmp_path / "call.pt"
        file.write_bytes(renamed(content, "yolov5.models.yolo\nDetectionModel", name))
        with pytest.raises(InputError, match="DetectionModel: called"):
            load(file)


def hook(model):
    model.model[0]._forward_hooks = OrderedDict({0: nn.Identity()})


def pre_hook(model):
    model._forward_pre_hooks = OrderedDict({0: visualizer()})


def method(model):
    model.__dict__["float"] = visualizer()


def text_method(model):
    model.__dict__["forward"] = "print"


def call(model):
    model.__dict__["_call_impl"] = nn.Identity()


def weights_as_modules(model):
    model.model[0]._modules["bn"] = "bn"


def buffers(model):
    model.model[0].conv._parameters["weight"] = [1.0]


def dunder_child(model):
    model._modules["__deepcopy__"] = visualizer()


def cycle(model):
    model.model[0]._modules["conv"] = model


def self_list(model):
    model.hyp = [1]
    model.hyp.append(model.hyp)


def class_as_data(model):
    model.hyp = {"f": nn.Identity}


def bound_method(model):
    model.hyp = {"f": model.fuse}


@pytest.mark.parametrize(
    "tamper_",
    [hook, pre_hook, method, text_method, call, weights_as_modules, buffers, dunder_child, cycle]
    + [self_list, class_as_data, bound_method],
)
def test_odd_attributes_are_refused(tamper_, tiny_model, tmp_path):
    tamper_(tiny_model)
    torch.save({"model": tiny_model}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="refused"):
        load(tmp_path / "odd.pt")


@pytest.mark.parametrize("names", [3, {"a": "b"}, [[1], [2]], object], ids=str)
def test_names_and_hyp_of_odd_types(names, tiny_model, tmp_path):
    """Either refused, or read as text."""
    tiny_model.names, tiny_model.hyp = names, names
    torch.save({"model": tiny_model, "opt": 7 if names == 3 else None}, tmp_path / "odd.pt")
    try:
        names_read = load(tmp_path / "odd.pt").names
        assert names_read == {0: "[1]", 1: "[2]", 2: "class2", 3: "class3"}
    except InputError as error:
        assert names != [[1], [2]] and "\n" not in str(error)


def test_the_hosts_own_calls_are_safe_too(tmp_path):
    marker = tmp_path / "marker"
    torch.save(Call(exec, touch(marker)), tmp_path / "bad.pt")
    before = torch.load
    with safe_loading(), pytest.raises(pickle.UnpicklingError, match="exec"):
        torch.load(tmp_path / "bad.pt", map_location="cpu", weights_only=False)
    assert (torch.load, marker.exists()) == (before, False)


@pytest.mark.parametrize(
    ("text", "slope"), [("nn.LeakyReLU(0.2)", 0.2), ("torch.nn.LeakyReLU(negative_slope=3)", 3)]
)
def test_harmless_activation(text, slope, tiny_yaml):
    check_model_yaml({**tiny_yaml, "activation": text}, namespace=vars(yolo))
    assert parse_activation(text).negative_slope == slope
