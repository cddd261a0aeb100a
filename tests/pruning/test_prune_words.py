"""What `prune` says: of arguments in Python, of options in a command; what pins, what was meant."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolo_slim import InputError, SparsityPenalty, admit, load, prune, save
from yolo_slim.extensions import ADMITTED
from yolo_slim.pruning.report import SHOWN

ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"percent": 1.5}, r"^percent: 1\.5, expected a share in \[0, 1\)$"),
    ({"percent": 60}, r"^percent: 60, expected a share in \[0, 1\) \(did you mean 0\.6\?\)"),
    ({"percent": 100}, r"^percent: 100, expected a share in \[0, 1\)$"),
    ({"macs": 50}, r"^macs: 50, .*\(did you mean 0\.5\?\)"),
    ({"params": 40.0}, r"^params: 40\.0, .*\(did you mean 0\.4\?\)"),
    ({"latency": 70}, r"^latency: 70, .*\(did you mean 0\.7\?\)"),
    ({"percent": "0.6"}, r"^percent: '0\.6', expected a share"),
    ({"percent": True}, "^percent: True, expected a share"),
    ({"ratios": {"model.2": 3}}, r"^ratios model\.2=3: 3, .*\(did you mean 0\.03\?\)"),
    ({"ratios": {"model.2": "0.5"}}, r"^ratios model\.2=0\.5: '0\.5', expected a share"),
    ({"ratios": {"nothing": 0.5}}, "^ratios: 'nothing', which matches nothing"),
    ({"ratios": {2: 0.5}}, r"^ratios: \{2: 0\.5\}, expected a dict of globs and shares"),
    ({"ratios": ["model.2"]}, r"^ratios: \['model\.2'\], expected a dict"),
    ({"ratios": 0.5}, "^ratios: 0.5, expected a dict"),
    ({"keep": "model.2"}, "^keep: 'model.2', expected a list of names"),
    ({"keep": [2]}, r"^keep: \[2\], expected a list of names"),
    ({"keep": None}, "^keep: None, expected a list of names"),
    ({"keep": ["model.99"]}, "^keep: 'model.99', which matches nothing"),
    ({"recover": "weights"}, "^recover: 'weights', expected a list of names"),
    ({"recover": ["statistics"]}, "^recover statistics: no calibration images, .*calibration$"),
    ({"budget": 3}, "^budget: 3, expected global, uniform, per-mac or losses"),
    ({"budget": "even"}, "^budget: 'even', expected global"),
    ({"calibration": "x"}, r"^calibration: a str, expected a Calibration"),
    ({"judge": 0.5}, "^judge: 0.5, expected a function of a model"),
    ({"steps": 0}, "^steps: 0, expected 1 or more"),
    ({"steps": 1.5}, "^steps: 1.5, expected a whole number, 1 or more"),
    ({"min_channels": 0}, "^min_channels: 0, expected 1 or more"),
    ({"round_to": "8"}, "^round_to: '8', expected a whole number"),
    ({"residual": "all"}, "^residual: 'all', expected skip, inner, group"),
    ({"seed": -1}, "^seed: -1, expected a whole number"),
    ({"criterion": "taylor"}, "^criterion taylor: no calibration images, expected calibration$"),
    ({"imgsz": 0}, "^imgsz: 0, expected 1 or more"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS, ids=str)
def test_python_speaks_of_arguments(tiny_model: nn.Module, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        prune(tiny_model, **{"imgsz": 64, **arguments})
    assert "--" not in str(error.value)


def test_a_command_speaks_of_options(refused, tiny_checkpoint: Path) -> None:
    weights = ["--weights", tiny_checkpoint, "--imgsz", 64]
    for option in ("--percent", "--macs", "--params", "--latency"):
        line = refused("prune", *weights, option, 60)
        assert f"{option}: 60.0, expected" in line and "did you mean 0.6?" in line
    line = refused("prune", *weights, "--ratio", "model.2=60")
    assert "--ratio: 'model.2=60', expected GLOB=SHARE" in line and "did you mean 0.6?" in line
    line = refused("prune", *weights, "--percent", 0.5, "--min-channels", 1000)
    assert "--percent: 0.5 of the channels, and none can go" in line
    assert "--min-channels below 1000" in line


def test_what_is_no_model(tiny_checkpoint: Path) -> None:
    checkpoint = load(tiny_checkpoint)
    pruned = prune(checkpoint.model, 0.3, imgsz=64)
    for given, message in (
        (checkpoint, "model: a Checkpoint, expected the model that it holds: checkpoint.model"),
        (pruned, "model: a Pruned, expected the model that it holds: pruned.model"),
        ("best.pt", r"model: 'best.pt', expected load\('best.pt'\).model"),
        (None, "model: None, expected an nn.Module"),
    ):
        with pytest.raises(InputError, match=message):
            prune(given, 0.3)


def test_gammas_that_say_little(tiny_model: nn.Module) -> None:
    with pytest.warns(UserWarning, match="without a sparse training these say little"):
        prune(tiny_model, 0.3, imgsz=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prune(tiny_model, 0.3, criterion="l2", imgsz=64)
        with torch.no_grad():
            for module in tiny_model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight[: module.num_features // 2] = 0
        prune(tiny_model, 0.3, imgsz=64)


class Odd(nn.Module):
    """An activation without a rule."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.sigmoid()


@pytest.fixture
def _odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADMITTED, "Odd", Odd)


def pinned(model: nn.Module, layers: list[int]) -> nn.Module:
    for index in layers:
        for module in model.model[index].modules():
            if isinstance(getattr(module, "act", None), nn.SiLU):
                module.act = Odd()
    return model


@pytest.mark.usefixtures("_odd")
def test_a_cut_that_reaches_nothing_names_what_pins(tiny_model: nn.Module) -> None:
    pinned(tiny_model, list(range(12)))
    with pytest.raises(InputError) as error:
        prune(tiny_model, 0.5, imgsz=64)
    said = r"model: none of its \d+ channels can be cut \(model[\w.]+: Odd has no rule, and \d+ "
    assert re.search(said, str(error.value)), error.value
    with pytest.raises(InputError, match="Odd has no rule, and"):
        SparsityPenalty(tiny_model)
    assert prune(tiny_model, 0.0, imgsz=64).report.achieved == 0


def test_the_command_ends_with_2(tiny_model: nn.Module, tmp_path: Path, refused) -> None:
    own = tmp_path / "odd_act.py"
    own.write_text(
        "from torch import nn\n\nclass OddAct(nn.Module):\n"
        "    def forward(self, x):\n        return x * x.sigmoid()\n"
    )
    (cls,) = admit(own)
    try:
        for module in tiny_model.modules():
            if isinstance(getattr(module, "act", None), nn.SiLU):
                module.act = cls()
        file = save(tiny_model, tmp_path / "odd.pt")
        for target in (["--percent", 0.5], ["--macs", 0.5], []):
            line = refused("prune", "--weights", file, "--imgsz", 64, "--modules", own, *target)
            assert "OddAct has no rule, and" in line and "can be cut" in line
    finally:
        ADMITTED.pop("OddAct", None)


@pytest.mark.usefixtures("_odd")
def test_far_from_the_target_because_of_pins(tiny_model: nn.Module) -> None:
    pinned(tiny_model, [1, 2, 3, 4, 5, 6])
    report = prune(tiny_model, 0.5, imgsz=64).report
    assert re.search(r"\d+ of \d+ channels could not be cut: model.* has no rule", report.summary())
    listed = report.summary().count("left as it is, it has no rule")
    assert listed == SHOWN < len(report.unknown)
    assert f"and {len(report.unknown) - SHOWN} more without a rule" in report.summary()
    with pytest.raises(InputError, match="what can be reached .*Odd has no rule"):
        prune(tiny_model, macs=0.05, imgsz=64)


def test_far_because_of_what_mixes_channels(tiny_model: nn.Module) -> None:
    """A rule may pin, too."""
    for layer in tiny_model.model[:12]:
        for module in layer.modules():
            if isinstance(getattr(module, "act", None), nn.SiLU):
                module.act = nn.Softmax(dim=1)
    with pytest.raises(InputError, match="Softmax, which normalises over channels, and"):
        prune(tiny_model, 0.5, imgsz=64)


def test_multiples_are_those_that_were_kept(tiny_model: nn.Module) -> None:
    """No layer of the tiny model has twice 64 channels."""
    how = prune(tiny_model, 0.5, round_to=64, imgsz=64).report
    kept = [layer.kept for layer in how.layers if layer.kept < layer.channels]
    assert any(count % 64 for count in kept)
    assert how.rounding() == "in multiples of 16 in 8 layers, of 8 in 4 layers"
    assert prune(tiny_model, 0.5, round_to=1, imgsz=64).report.rounding() == "not rounded"


def test_a_cut_keeps_no_more_than_all() -> None:
    """On a few images a cut may be better than the whole model: no 142%."""
    from yolo_slim.sparsify.readiness import Kept
    from yolo_slim.sparsify.verdict import probed

    assert "60% keeps all of mAP50" in probed(Kept(0.6, 1.42))
