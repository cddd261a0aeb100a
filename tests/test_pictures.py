"""Pictures look the same whatever was drawn before them: YOLOv5's plots leave seaborn's style."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
import seaborn
from curves import BENT, SIZES, made_up
from matplotlib.image import imread
from torch import nn

import yolo_slim
from yolo_slim.channels.rules import channel_graph
from yolo_slim.curve.plot import plot_curve
from yolo_slim.curve.words import bend_of
from yolo_slim.pruning.report import LayerCut
from yolo_slim.pruning.times import LayerTime, Times
from yolo_slim.report.channels_plot import plot_channels
from yolo_slim.report.graph_plot import plot_graph
from yolo_slim.report.inspection import inspection
from yolo_slim.sensitivity.plot import plot_scan
from yolo_slim.sensitivity.scan import Row, Scan
from yolo_slim.sparsify.plot import plot_sparsity
from yolo_slim.sparsify.readiness import Sparsity

PACKAGE = Path(yolo_slim.__file__).parent


def scan() -> Scan:
    """Two layers at two shares; one cut measured better than the whole model."""
    cells = [("model.0.bn", 0.3, 0.5), ("model.0.bn", 0.7, 0.1), ("model.1.bn", 0.3, 0.62)]
    rows = [Row("channels", name, 8, share, share, 0.7, left) for name, share, left in cells]
    settings = {"kinds": "channels", "shares": "0.3 0.7"}
    return Scan(Path("sensitivity.csv"), settings, (Row("dense", "-", 0, 0, 0, 0.8, 0.6), *rows))


def channels(model: nn.Module, file: Path) -> Path:
    return plot_channels([LayerCut("model.0.bn", 8, 4), LayerCut("model.1.bn", 8, 8, "x")], file)


def by_time(model: nn.Module, file: Path) -> Path:
    """With the times of the layers beside the channels."""
    rows = LayerTime("model.0.conv", 2.0, 1.0), LayerTime("decoding", 0.5, 0.5)
    times = Times("onnxruntime 1.0", "a processor", 2, 64, 8, (2.5, 1.5), (2.6, 1.6), rows)
    return plot_channels([LayerCut("model.0.bn", 8, 4)], file, times)


def graph(model: nn.Module, file: Path) -> Path:
    return plot_graph(inspection(model, channel_graph(model)), file)


def curve(model: nn.Module, file: Path) -> Path:
    measured = made_up(BENT, SIZES, {"runs/slim/exp": (6.0, 0.48)})
    return plot_curve(measured, file, bend_of(measured))


def sensitivity(model: nn.Module, file: Path) -> Path:
    return plot_scan(scan(), file)


def sparsity(model: nn.Module, file: Path) -> Path:
    start = {name: 1.0 for name in channel_graph(model).norms}
    history = [
        Sparsity.of(model, start, epoch=epoch, sr=0.1, percent=0.5, map50=0.4, map=0.2)
        for epoch in range(3)
    ]
    return plot_sparsity(history, file, aim=0.5, held_from=1)


@pytest.mark.parametrize(
    "draw", [channels, by_time, graph, curve, sensitivity, sparsity], ids=lambda f: f.__name__
)
def test_a_picture_is_the_same_after_seaborns_style(
    draw: Callable[[nn.Module, Path], Path], tiny_model: nn.Module, tmp_path: Path
) -> None:
    plain = draw(tiny_model, tmp_path / "plain.png").read_bytes()
    with matplotlib.rc_context():
        seaborn.set_theme(palette="husl")
        matplotlib.rc("font", size=14)
        theirs = dict(matplotlib.rcParams)
        after = draw(tiny_model, tmp_path / "after.png").read_bytes()
        assert dict(matplotlib.rcParams) == theirs  # which is as it was
    assert after == plain


def test_whatever_draws_has_our_style() -> None:
    drawing = 0
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef) or node.name == "new_figure":
                continue
            calls = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
            if calls & {"new_figure", "pyplot.figure"}:
                drawing += 1
                styles = [ast.unparse(decorator) for decorator in node.decorator_list]
                assert "own_style()" in styles, f"{file}: {node.name}"
    assert drawing >= 5


def test_a_gain_is_not_drawn_as_no_loss(tmp_path: Path) -> None:
    """The cell of the cut that measured better has a colour that no loss has."""
    image = imread(plot_scan(scan(), tmp_path / "scan.png"))[..., :3]
    green = (image[..., 1] > image[..., 0] + 0.02) & (image[..., 1] > image[..., 2] + 0.005)
    assert green.sum() > 500
