"""Modules that yolo_slim does not know: left dense without a rule, cut with one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import MethodType

import numpy as np
import pytest
import torch
import yaml
from _common import randomise_norms_
from conftest import build_tiny
from pickles import pickled, renamed
from torch import nn

from yolo_slim import InputError, admit, channel_graph, extensions, load, prune, save, walk
from yolo_slim.channels import rules
from yolo_slim.cli import run
from yolo_slim.deploy.stock import to_stock
from yolo_slim.errors import CheckFailed
from yolo_slim.host.classes import common
from yolo_slim.models.model import build_model

HERE = Path(__file__).parent
OWN = HERE / "own_modules.py"
EXAMPLE = HERE.parent / "examples" / "my_modules.py"
YAML = """
nc: 4
depth_multiple: 0.67
width_multiple: 0.25
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Conv, [32, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [64, 3, 2]]  # 1
  - [-1, 3, C3, [64]]  # 2
  - {first}  # 3
  - [-1, 1, Conv, [128, 3, 2]]  # 4
  - {second}  # 5
  - [-1, 1, Conv, [128, 3, 2]]  # 6
  - [-1, 1, SPPF, [128, 5]]  # 7
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]  # 8
  - [[-1, 5], 1, Concat, [1]]  # 9
  - [-1, 3, C3, [128, False]]  # 10
  - [[10, 7], 1, Detect, [nc, anchors]]  # 11
"""
SAME = "[-1, 1, nn.Identity, []]"
UNKNOWN = {
    "CBAM": ("[-1, 1, CBAM, [64, 7]]", ["model.3"]),
    "SEBlock": ("[-1, 1, SEBlock, [16]]", ["model.3"]),
    "ShuffleUnit": ("[-1, 1, ShuffleUnit, [64, 1]]", ["model.3"]),
    "ShuffleUnit twice": ("[-1, 3, ShuffleUnit, [64, 1]]", ["model.3.0", "model.3.1"]),
    "MobileBlock": ("[-1, 1, MobileBlock, [64, 1]]", ["model.3"]),
    "Blur": ("[-1, 1, Blur, [64, 3]]", ["model.3"]),
    "Repeats": ("[-1, 3, Repeats, [64]]", ["model.3"]),
}


@pytest.fixture(autouse=True)
def _forget():
    """What a test admits holds for that test."""
    before, known = dict(rules.RULES), dict(extensions.ADMITTED)
    yield
    for registry, old in ((rules.RULES, before), (extensions.ADMITTED, known)):
        registry.clear()
        registry.update(old)
    for name in ("own_modules", "my_modules"):
        sys.modules.pop(name, None)


def model_with(first: str, second: str = SAME) -> nn.Module:
    model = build_model(yaml.safe_load(YAML.format(first=first, second=second)))
    randomise_norms_(model)
    return model.eval()


@pytest.mark.parametrize("residual", ["skip", "inner", "group"])
@pytest.mark.parametrize("kind", UNKNOWN)
def test_unknown_modules_stay_dense(kind, residual, tmp_path) -> None:
    admit(OWN)
    row, names = UNKNOWN[kind]
    model = model_with(row)
    graph = channel_graph(model, residual)
    assert [(u.name, u.type) for u in graph.unknown] == [(n, kind.split()[0]) for n in names]
    feeding = graph.norms["model.2.cv3.bn"]
    assert feeding.pinned == f"read by {names[0]}, {kind.split()[0]}, which has no rule"
    assert "model.2.cv3.bn" in graph.unknown[0].reads
    inside = [n for n in graph.norms.values() if n.name.startswith("model.3.")]
    norms = [m for m in model.model[3].modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(inside) == len(norms)
    assert all("which has no rule" in n.pinned for n in inside)
    pruned = prune(model, 0.6, residual=residual, round_to=1, imgsz=64)
    assert pruned.parity.holds
    assert pruned.report.achieved == pytest.approx(0.6, abs=0.02)
    assert [str(u) for u in graph.unknown] == list(pruned.report.unknown)
    dense, slim = model.model[3].state_dict(), pruned.model.model[3].state_dict()
    assert all(torch.equal(dense[key], slim[key]) for key in dense.keys() | slim.keys())
    again = prune(load(save(pruned, tmp_path / "p.pt")).model, 0.3, residual=residual, imgsz=64)
    assert again.parity.holds


def test_parity_sees_what_is_inside(tmp_path) -> None:
    """The unknown module's weights are part of the proof."""
    from yolo_slim.pruning.masks import keep_vector
    from yolo_slim.pruning.rebuild.parity import check_parity
    from yolo_slim.pruning.rebuild.rebuild import rebuild

    admit(OWN)
    model = model_with(UNKNOWN["CBAM"][0])
    graph = channel_graph(model)
    masks = prune(model, 0.5, imgsz=64).masks
    pruned = rebuild(model, graph, masks)
    assert keep_vector(graph, masks).sum() < graph.channels
    assert check_parity(model, pruned, graph, masks).holds
    with torch.no_grad():
        pruned.model[3].spatial.weight[0, 0, 3, 3] += 1e-3
    assert not check_parity(model, pruned, graph, masks).holds


def test_a_rule_from_outside_cuts() -> None:
    admit(EXAMPLE)
    model = model_with("[-1, 1, SE, [64]]", "[-1, 1, Residual, [128]]")
    skip, group = channel_graph(model), channel_graph(model, "group")
    assert not skip.unknown
    assert skip.norms["model.2.cv3.bn"].pinned is None
    assert skip.norms["model.2.cv3.bn"].readers == ("model.3.reduce", "model.4.conv")
    assert skip.norms["model.5.cv1.bn"].pinned == "inside the residual model.5"
    assert group.norms["model.5.cv2.bn"].tied == ("model.4.bn",)
    for residual in ("skip", "inner", "group"):
        pruned = prune(model, 0.6, residual=residual, imgsz=64)
        assert pruned.parity.holds
        assert prune(pruned.model, 0.3, residual=residual, imgsz=64).parity.holds
        reduce = pruned.model.model[3].reduce
        assert reduce.in_channels < model.model[3].reduce.in_channels
        assert reduce.out_channels == model.model[3].reduce.out_channels


WRONG = {
    "nothing returned": ("return None", "a NoneType returned, expected the ids"),
    "too few": ("return x[1:]", "15 ids, expected 16 channels, those of its output"),
    "an exception": ("return t.norm(name, m.spatial)", "AttributeError .*num_features"),
    "a name that is not there": (
        "t.conv(f'{name}.foo', m.spatial, x[:2]); return x",
        r"model\.3\.foo: named by a rule",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_rules_that_fail_are_named(kind, tmp_path, refused) -> None:
    code, message = WRONG[kind]
    admit(OWN)
    file = save(model_with(UNKNOWN["CBAM"][0]), tmp_path / "cbam.pt")
    extensions.ADMITTED.clear()
    sys.modules.pop("own_modules")
    own = tmp_path / "own_modules.py"
    rule = f"\n\nfrom yolo_slim import rule\n@rule(CBAM)\ndef _r(m, name, x, t):\n    {code}\n"
    own.write_text(OWN.read_text() + rule)
    line = refused("prune", "--weights", file, "--modules", own, "--imgsz", 64)
    assert re.search(message, line), line
    assert "model.3" in line


def test_rule_that_is_wrong_is_found_out_by_a_trial() -> None:
    """ "return x" is wrong for an attention over space; a cut elsewhere must not hide it."""
    admit(OWN)
    model = model_with(UNKNOWN["CBAM"][0])
    rules.rule(type(model.model[3]))(lambda m, name, x, t: x)
    with pytest.raises(CheckFailed, match="is the rule of CBAM right?"):
        prune(model, 0.3, keep=["model.2"], imgsz=64)
    rules.rule(type(model.model[3]))(lambda m, name, x, t: t.conv(f"{name}.spatial", m.spatial, x))
    with pytest.raises(InputError, match=r"the rule of CBAM for model\.3: AssertionError"):
        prune(model, 0.3, imgsz=64)


def test_halves_of_a_chunk_must_be_tied() -> None:
    """As docs/own-modules.md says."""
    admit(OWN)
    model = model_with(UNKNOWN["ShuffleUnit"][0])

    def shuffle_unit(m, name, x, t, tied=True):
        first, second = x[: len(x) // 2], x[len(x) // 2 :]
        out = second
        for child, module in m.main.named_children():
            if isinstance(module, nn.Conv2d):
                out = t.conv(f"{name}.main.1", module, out, t.norm(f"{name}.main.2", m.main[2]))
            elif isinstance(module, common.Conv):
                out = walk(module, f"{name}.main.{child}", out, t)
        if tied:
            t.tie(first, second)
            t.tie(first, out)
        return np.stack([first, out], 1).ravel()

    rules.rule(type(model.model[3]))(shuffle_unit)
    for residual in ("skip", "group"):
        pruned = prune(model, 0.5, residual=residual, round_to=1, imgsz=64)
        assert pruned.model.model[3].main[0].conv.in_channels < 8
        assert prune(pruned.model, 0.3, residual=residual, imgsz=64).parity.holds
    rules.rule(type(model.model[3]))(lambda m, name, x, t: shuffle_unit(m, name, x, t, tied=False))
    with pytest.raises(CheckFailed, match="is the rule of ShuffleUnit right?"):
        prune(model, 0.5, round_to=1, imgsz=64)


def test_attention_on_top_of_a_known_one() -> None:
    admit(EXAMPLE)
    model = model_with("[-1, 1, SE, [64]]", "[-1, 1, SpatialAttention, [128]]")
    pruned = prune(model, 0.5, imgsz=64)
    assert pruned.report.unknown == ("model.5: SpatialAttention, reads model.4.bn",)
    assert "left as it is, it has no rule: model.5" in pruned.report.summary()
    assert pruned.model.model[3].reduce.in_channels < 16


@pytest.mark.parametrize("name", ["models.common.CBAM", "own_modules.CBAM", "nets.attention.CBAM"])
def test_checkpoint_of_a_clone_with_a_class_of_its_own(name, tmp_path, monkeypatch) -> None:
    admit(OWN)
    model = model_with(UNKNOWN["CBAM"][0])
    named = "\n".join(name.rsplit(".", 1))
    content = renamed(pickled({"model": model}), "own_modules\nCBAM", named)
    content = renamed(content, "yolov5.models.", "models.")
    file = tmp_path / "clone.pt"
    file.write_bytes(content)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(load(file).model(image)[0], model(image)[0])
    extensions.ADMITTED.clear()
    with pytest.raises(InputError, match=rf"names {name}, .*--modules FILE admits your own CBAM"):
        load(file)


def test_blocks_of_torchvision_are_admitted_with_their_wrapper(tmp_path) -> None:
    admit(OWN)
    model = model_with(UNKNOWN["MobileBlock"][0])
    found = load(save(model, tmp_path / "m.pt")).model
    assert type(found.model[3].block).__module__ == "torchvision.models.mobilenetv2"
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(found(image)[0], model(image)[0])


def test_activation_shared_by_all_convs() -> None:
    """An activation that has no rule pins what it reads, wherever it stands."""

    class Swish(nn.Module):
        def forward(self, x):
            return x * x.sigmoid()

    model = build_tiny()
    shared = Swish()
    for m in model.modules():
        if type(m).__name__ == "Conv" and isinstance(m.act, nn.SiLU):
            m.act = shared
    graph = channel_graph(model)
    assert graph.prunable_channels == 0
    assert len(graph.unknown) == len(graph.norms)
    rules.rule(Swish)(lambda m, name, x, t: x)
    assert channel_graph(model).prunable_channels == channel_graph(build_tiny()).prunable_channels
    with pytest.raises(InputError, match=r"activation 'Swish\(\)'"):
        prune(model, 0.3, imgsz=64)
    extensions.ADMITTED["Swish"] = Swish
    pruned = prune(model, 0.3, imgsz=64)
    assert pruned.yaml["activation"] == "Swish()"
    assert prune(pruned.model, 0.3, imgsz=64).parity.holds


def test_module_that_its_yaml_does_not_build(tiny_model: nn.Module) -> None:
    layer = nn.Conv2d(32, 32, 1)
    layer.i, layer.f = 5, -1
    layer.forward = MethodType(lambda self, x: x, layer)
    tiny_model.model[5] = nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1))
    tiny_model.model[5].i, tiny_model.model[5].f = 5, -1
    with pytest.raises(InputError, match=r"model\.5: a Sequential, which Conv .* does not build"):
        prune(tiny_model, 0.3, imgsz=64)


def test_the_road_with_modules(shapes_yaml, tmp_path, monkeypatch, capfd) -> None:
    """sparse, prune, finetune and export, each by --modules; who forgets it is told."""
    monkeypatch.chdir(tmp_path)
    cfg = tmp_path / "own.yaml"
    rows = {"first": UNKNOWN["CBAM"][0], "second": "[-1, 1, MobileBlock, [128, 1]]"}
    cfg.write_text(YAML.format(**rows))
    own = ["--modules", str(OWN)]
    train = ["--data", str(shapes_yaml), "--imgsz", "64", "--epochs", "1", "--batch-size", "8"]
    train += ["--workers", "0", "--noplots"]
    assert run("sparse", ["--st", "--cfg", str(cfg), "--weights", "", *train, *own]) == 0
    assert run("prune", ["--percent", "0.5", *own]) == 0
    report = json.loads((tmp_path / "runs/prune/exp/report.json").read_text())
    assert [text.split(",")[0] for text in report["unknown"]] == [
        "model.3: CBAM",
        "model.5: MobileBlock",
    ]
    assert run("finetune", [*train, *own]) == 0
    assert run("export", ["--include", "onnx", "--repeats", "0", "--imgsz", "64", *own]) == 0
    assert list(tmp_path.glob("runs/export/exp/*.onnx"))
    best = str(tmp_path / "runs/finetune/exp/weights/best.pt")
    seen = ["--imgsz", "64", "--project", "seen"]
    assert run("val", ["--weights", best, "--data", str(shapes_yaml), *seen, *own]) == 0
    images = str(shapes_yaml.parent / "shapes" / "images" / "val")
    assert run("detect", ["--weights", best, "--source", images, *seen, *own]) == 0
    assert run("inspect", [best, "--json", *own]) == 0
    with pytest.raises(InputError, match=r"--include stock, model\.3: a CBAM of own_modules"):
        to_stock(load(best).model)
    extensions.ADMITTED.clear()
    sys.modules.pop("own_modules")
    capfd.readouterr()
    assert run("prune", ["--weights", str(tmp_path / "runs/prune/exp/pruned.pt")]) == 2
    told = capfd.readouterr().err
    assert "own_modules.CBAM" in told and "--modules FILE admits your own CBAM" in told
    assert told.count("\n") == 1


def test_resume_knows_the_modules_of_its_run(shapes_yaml, empty_folder, interrupt, monkeypatch):
    cfg = empty_folder / "own.yaml"
    cfg.write_text(YAML.format(first=UNKNOWN["CBAM"][0], second=SAME))
    train = ["--st", "--cfg", str(cfg), "--data", str(shapes_yaml), "--imgsz", "64", "--epochs"]
    train += ["2", "--batch-size", "8", "--workers", "0", "--noplots", "--modules", str(OWN)]
    with monkeypatch.context():
        interrupt(1)
        assert run("sparse", train) == 130
        monkeypatch.undo()
    monkeypatch.chdir(empty_folder)
    extensions.ADMITTED.clear()
    sys.modules.pop("own_modules")
    assert run("sparse", ["--resume"]) == 0
    assert (empty_folder / "runs/train/exp/sparsity.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("import nothing_of_that_name", r"does not import \(ModuleNotFoundError"),
        ("class C3(:", r"does not import \(SyntaxError"),
        ("raise SystemExit(3)", r"does not import \(SystemExit: 3\)"),
        ("x = 1", "no nn.Module class in it"),
        ("from torch import nn\nclass C3(nn.Module): pass", "a class C3, a name of YOLOv5's own"),
    ],
)
def test_module_files_that_cannot_be_used(text, message, refused, tmp_path) -> None:
    file = tmp_path / "wrong_modules.py"
    if text is not None:
        file.write_text(text)
    line = refused("prune", "--modules", file)
    assert re.search(message, line), line
    sys.modules.pop("wrong_modules", None)


def test_module_file_named_as_a_package(refused, tmp_path) -> None:
    (tmp_path / "torch.py").write_text("")
    assert "the name torch, which Python uses already" in refused(
        "prune", "--modules", tmp_path / "torch.py"
    )
