"""sparse -> prune -> finetune -> sparse -> prune, with the same commands."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

from yolo_slim import ModelPruned, load, prune
from yolo_slim.cli import run


def params(file: Path) -> int:
    return sum(p.numel() for p in load(file).model.parameters())


def test_two_rounds(tiny_checkpoint, shapes_yaml, empty_folder, capfd) -> None:
    data = ["--data", str(shapes_yaml), "--imgsz", "64", "--epochs", "1", "--batch-size", "8"]
    data += ["--workers", "0", "--noplots"]
    runs = empty_folder / "runs"
    assert run("sparse", ["--st", "--weights", str(tiny_checkpoint), *data]) == 0
    assert run("prune", ["--percent", "0.3"]) == 0
    assert run("finetune", data) == 0
    tuned = runs / "finetune/exp/weights/best.pt"
    assert run("sparse", ["--st", "--weights", str(tuned), *data]) == 0
    sparse = load(runs / "train/exp2/weights/last.pt").model
    assert isinstance(sparse, ModelPruned)
    assert [cut["params"] for cut in sparse.ancestry] == [
        [params(tiny_checkpoint), params(runs / "prune/exp/pruned.pt")]
    ]
    capfd.readouterr()
    assert run("prune", ["--percent", "0.4", "--residual", "inner"]) == 0
    text = capfd.readouterr().out
    assert run("finetune", data) == 0

    report = json.loads((runs / "prune/exp2/report.json").read_text())
    files = [tiny_checkpoint, runs / "prune/exp/pruned.pt", runs / "prune/exp2/pruned.pt"]
    counts = [params(file) for file in files]
    assert counts[0] > counts[1] > counts[2]
    first, second = report["ancestry"]
    assert (first["params"], second["params"]) == (counts[:2], counts[1:])
    assert (first["percent"], second["percent"]) == (0.3, 0.4)
    assert (first["residual"], second["residual"]) == ("skip", "inner")
    assert first["macs"][0] > first["macs"][1] == second["macs"][0] > second["macs"][1]
    assert first["weights"] == str(runs / "train/exp/weights/best.pt")
    assert second["weights"] == str(runs / "train/exp2/weights/best.pt")
    for row in (("dense", counts[0]), ("1", counts[1]), ("2", counts[2])):
        assert any(
            line.split()[:1] == [row[0]] and f"{row[1]:,}" in line for line in text.splitlines()
        )
    third = ["--st", "--weights", str(runs / "finetune/exp2/weights/best.pt"), *data]
    assert run("sparse", third) == 0
    options = yaml.safe_load((runs / "train/exp3/opt.yaml").read_text())
    assert options["residual"] == "inner"  # as in the last cut

    final = load(runs / "finetune/exp2/weights/best.pt").model
    assert [cut["params"] for cut in final.ancestry] == [counts[:2], counts[1:]]
    assert params(runs / "finetune/exp2/weights/best.pt") == counts[2]


def test_many_cuts_in_a_row(tiny_model) -> None:
    """Five cuts of 20% each: parity at each, and each from the one before."""
    model, left = tiny_model, []
    for _ in range(5):
        pruned = prune(model, 0.2, residual="group", imgsz=64)
        assert pruned.parity.holds
        model = pruned.model
        left.append(sum(p.numel() for p in model.parameters()))
        assert model.maskbndict.keys() == pruned.masks.keys()
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == 5
    assert [cut["params"][1] for cut in model.ancestry] == left
    with torch.no_grad():
        assert torch.isfinite(model.eval()(torch.rand(1, 3, 64, 64))[0]).all()
