"""The functions for programs: numbers of numpy and torch are numbers; wrong types are one line."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from yolo_slim import (
    Calibration,
    InputError,
    ModelPruned,
    SparsityPenalty,
    admit,
    calibrate,
    channel_graph,
    load,
    prune,
    reapply_,
    rule,
    save,
    sparsify_,
)

HALVES = [np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5)]
CUT: dict[str, Any] = {"criterion": "l2", "imgsz": 64}
WRONG: dict[str, Callable[[nn.Module], Any]] = {
    "percent text": lambda m: prune(m, "0.5"),
    "percent list": lambda m: prune(m, [0.5]),
    "percent array": lambda m: prune(m, np.array([0.5])),
    "percent nan": lambda m: prune(m, np.float32("nan")),
    "percent bool": lambda m: prune(m, np.bool_(True)),
    "size array": lambda m: prune(m, size_mb=np.array([1.0, 2.0])),
    "criterion list": lambda m: prune(m, criterion=["l2"]),
    "criterion dict": lambda m: prune(m, criterion={}),
    "criterion None": lambda m: prune(m, criterion=None),
    "budget array": lambda m: prune(m, budget=np.ones(3)),
    "residual list": lambda m: prune(m, residual=["skip"]),
    "residual array": lambda m: prune(m, residual=np.ones(3)),
    "keep None": lambda m: prune(m, keep=None),
    "recover text": lambda m: prune(m, recover="weights"),
    "imgsz text": lambda m: prune(m, imgsz="64"),
    "round_to 8.5": lambda m: prune(m, round_to=np.float32(8.5)),
    "model meta": lambda m: prune(m.to("meta"), 0.4),
    "model NaN": lambda m: prune(nan(m), 0.4, **CUT),
    "graph residual": lambda m: channel_graph(m, ["skip"]),
    "penalty sr": lambda m: SparsityPenalty(m, [1]),
    "penalty None": lambda m: SparsityPenalty(m, None),
    "penalty array": lambda m: SparsityPenalty(m, np.ones(2)),
    "penalty penalty": lambda m: SparsityPenalty(m, penalty=["l1"]),
    "penalty keep": lambda m: SparsityPenalty(m, keep="model.2"),
    "penalty keep None": lambda m: SparsityPenalty(m, keep=None),
    "attach": lambda m: SparsityPenalty(m).attach(None),
    "load None": lambda m: load(None),
    "save None": lambda m: save(m, None),
    "save NUL": lambda m: save(m, "a\0b.pt"),
    "calibrate None": lambda m: calibrate(None, m, imgsz=64),
    "calibrate split": lambda m: calibrate("a.yaml", m, imgsz=64, split=["train"]),
    "calibrate seed": lambda m: calibrate("a.yaml", m, imgsz=64, seed=None),
    "calibrate plain": lambda m: calibrate("a.yaml", nn.Conv2d(3, 3, 1), imgsz=64),
    "calibration": lambda m: Calibration(((1, 2),)),
    "calibration None": lambda m: Calibration(None),
    "admit None": lambda m: admit(None),
    "rule of no class": lambda m: rule(int),
    "sparsify text": lambda m: sparsify_(m, "a"),
    "sparsify None": lambda m: sparsify_(None),
    "sparsify ratios": lambda m: sparsify_(m, ratios=["a"]),
    "sparsify method": lambda m: sparsify_(m, method=["l1"]),
    "sparsify seed": lambda m: sparsify_(m, seed=None),
    "reapply None": lambda m: reapply_(None),
    "ModelPruned None": lambda m: ModelPruned(None),
}


def nan(model: nn.Module) -> nn.Module:
    model.model[3].conv.weight.data[0] = torch.nan
    return model


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_is_one_line(name: str, tiny_model: nn.Module) -> None:
    with pytest.raises(InputError) as error:
        WRONG[name](tiny_model)
    assert "\n" not in str(error.value) and "--" not in str(error.value)


@pytest.mark.parametrize("half", HALVES, ids=["float32", "float64", "array", "tensor"])
def test_numbers_of_numpy_and_torch(half: Any, tiny_model: nn.Module) -> None:
    expected = prune(tiny_model, 0.5, **CUT)
    pruned = prune(tiny_model, half, **CUT)
    assert pruned.yaml == expected.yaml and type(pruned.report.target.requested) is float
    assert prune(tiny_model, macs=half, **CUT).parity.holds
    ratios = prune(tiny_model, 0.3, ratios={"model.2": half}, **CUT)
    assert ratios.parity.holds
    assert SparsityPenalty(tiny_model, percent=half).target == 0.5
    assert type(SparsityPenalty(tiny_model, half).sr) is float
    sparse = deepcopy(tiny_model)
    assert str(sparsify_(sparse, half)) == str(sparsify_(deepcopy(tiny_model), 0.5))


def test_whole_numbers_of_numpy(tiny_model: nn.Module, shapes_yaml: Path, tmp_path: Path) -> None:
    counts = {"round_to": np.int64(8), "min_channels": torch.tensor(2), "steps": np.int32(2)}
    given = prune(tiny_model, 0.4, criterion="l2", imgsz=np.int64(64), seed=np.int64(3), **counts)
    plain = {name: int(value) for name, value in counts.items()}
    expected = prune(tiny_model, 0.4, seed=3, **plain, **CUT)
    assert given.yaml == expected.yaml and given.report == expected.report
    assert load(save(given, tmp_path / "p.pt")).model.yaml["nc"] == 4
    images = calibrate(Path(shapes_yaml), tiny_model, imgsz=np.int64(64), images=np.int64(4))
    assert images.images == 4
