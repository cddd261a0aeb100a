"""Cuts by the table of a device; the tables are made up, so that no test depends on a machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from device_tables import BLOCK, conv_seconds, made_table, op_seconds, write_table
from torch import nn

from yolo_slim import InputError, channel_graph, load, prune, save
from yolo_slim.cli import run
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device.layers import Exported
from yolo_slim.device.profile_device import processor
from yolo_slim.device.workload import conv_rows, parts
from yolo_slim.pruning.prune import Pruned

SHARE = 0.6


def kept_of(pruned: Pruned) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in pruned.masks.items()}


@pytest.fixture(scope="module")
def cut(tiny_checkpoint: Path, tiny_table: Path) -> Pruned:
    """The tiny model cut to 0.6 of the time by the made-up table."""
    model = load(tiny_checkpoint).model
    return prune(model, latency=SHARE, device=tiny_table, criterion="l2", imgsz=64)


def test_the_time_that_was_asked_for(cut: Pruned) -> None:
    """Within a few per cent below it, never above; the table is of another machine."""
    times = cut.report.times
    assert times is not None and times.measured is None
    assert SHARE - 0.03 <= times.share <= SHARE
    assert cut.report.target.achieved == times.share
    assert cut.report.budget == "device"
    words = cut.report.summary()
    assert "onnxruntime, ms, predicted" in words
    assert "requested 60.0% of the latency, left" in words
    measured = next(line for line in words.splitlines() if "ms, measured" in line)
    assert "not here" in measured


def test_the_prediction_is_the_sum_of_the_layers(cut: Pruned, tiny_checkpoint: Path) -> None:
    """Computed by hand, from the ONNX of the pruned model and the formulas of the table."""
    model = load(tiny_checkpoint).model
    times = cut.report.times
    assert times is not None
    for now, predicted in zip((model, cut.model), times.predicted, strict=True):
        graph = channel_graph(now, "group")
        exported = Exported(to_onnx(now, imgsz=64), graph)
        rows, whole = conv_rows(exported, graph), parts(exported)
        seconds = sum(conv_seconds(rows[key], i, o) for key, i, o in whole["convs"])
        seconds += sum(op_seconds(channels) for _, channels in whole["ops"])
        assert predicted == pytest.approx(1e3 * seconds, rel=1e-6)
    both = np.array([(row.dense, row.pruned) for row in times.layers]).sum(0)
    assert both == pytest.approx(times.predicted, rel=1e-9)


def test_counts_are_multiples_of_the_step(cut: Pruned) -> None:
    assert cut.report.times is not None and cut.report.times.step == cut.report.round_to == BLOCK
    kept = kept_of(cut)
    assert all(count % BLOCK == 0 for count in kept.values())
    assert any(count < len(cut.masks[name]) for name, count in kept.items())
    assert f"in multiples of {BLOCK}" in cut.report.summary()


def test_a_smaller_share_takes_more(tiny_model: nn.Module, tiny_table: Path) -> None:
    lengths = []
    for share in (1.0, 0.8, 0.5):
        pruned = prune(tiny_model, latency=share, device=str(tiny_table), criterion="l2", imgsz=64)
        assert pruned.report.times is not None and pruned.report.times.share <= share
        lengths.append(sum(kept_of(pruned).values()))
    assert lengths[0] > lengths[1] > lengths[2]
    assert lengths[0] == sum(len(mask) for mask in pruned.masks.values())


def test_what_is_expensive_goes_first(tiny_model: nn.Module) -> None:
    """The same model on a device on which the maps of 2 x 2 take 200 times as long."""
    content = made_table(tiny_model)
    plain = prune(tiny_model, latency=0.7, device=table_of(content), criterion="l2", imgsz=64)
    for key, row in content["convs"].items():
        if "at 2x2" in key:
            row["seconds"] = (200 * np.array(row["seconds"])).tolist()
    for key, i, o in content["networks"]["dense"]["convs"]:
        if "at 2x2" in key:
            row = content["convs"][key]
            assert i <= max(row["inputs"]) and o <= max(row["outputs"])
    table = table_of(content)
    sums = [table.conv(k)[i, o] for k, i, o in content["networks"]["dense"]["convs"]]
    content["networks"]["dense"]["seconds"] = float(sum(sums))
    slow = prune(tiny_model, latency=0.7, device=table_of(content), criterion="l2", imgsz=64)
    late = [name for name in plain.masks if name.startswith("model.7")]
    assert late
    assert sum(kept_of(slow)[n] for n in late) < sum(kept_of(plain)[n] for n in late)
    early = [name for name in plain.masks if not name.startswith(("model.6", "model.7", "model.8"))]
    assert sum(kept_of(slow)[n] for n in early) > sum(kept_of(plain)[n] for n in early)


def table_of(content: dict):
    from yolo_slim.device.table import DeviceTable

    return DeviceTable(**{k: v for k, v in content.items() if k != "format"})


def test_keep_ratio_and_floors_hold(tiny_model: nn.Module, tiny_table: Path) -> None:
    options = {"latency": 0.9, "device": tiny_table, "criterion": "l2", "imgsz": 64}
    pruned = prune(
        tiny_model, **options, keep=["model.6"], ratios={"model.7.*": 0.5}, min_channels=16
    )
    kept = kept_of(pruned)
    assert pruned.masks["model.6.bn"].all()
    assert (kept["model.7.cv1.bn"], kept["model.7.cv2.bn"]) == (16, 32)
    for name, count in kept.items():
        assert count >= min(16, len(pruned.masks[name])), name


@pytest.mark.parametrize("residual", ["skip", "inner", "group"])
def test_residual_modes_hold(residual: str, tiny_model: nn.Module, tiny_table: Path) -> None:
    pruned = prune(
        tiny_model, latency=0.7, device=tiny_table, criterion="l2", imgsz=64, residual=residual
    )
    graph = channel_graph(tiny_model, residual)
    assert set(pruned.masks) == {norm.name for norm in graph.prunable}
    for name, mask in pruned.masks.items():
        for other in graph.norms[name].tied:
            assert mask.tolist() == pruned.masks[other].tolist()
    assert pruned.parity.holds
    assert pruned.report.times is not None and pruned.report.times.share <= 0.7


def test_a_cut_model_is_cut_by_the_table_of_the_first(cut: Pruned, tiny_table: Path) -> None:
    again = prune(cut.model, latency=0.8, device=tiny_table, criterion="l2", imgsz=64)
    before, after = cut.report.times, again.report.times
    assert before is not None and after is not None
    assert after.predicted[0] == pytest.approx(before.predicted[1], rel=1e-9)
    assert 0.7 <= after.share <= 0.8


def test_little_by_little(tiny_model: nn.Module, tiny_table: Path) -> None:
    pruned = prune(tiny_model, latency=SHARE, device=tiny_table, criterion="l2", imgsz=64, steps=2)
    assert pruned.report.times is not None and pruned.report.times.share <= SHARE


def test_out_of_reach(tiny_model: nn.Module, tiny_table: Path) -> None:
    with pytest.raises(InputError, match=r"^latency: 0.05, expected 0\.\d+ to 1, by the table of"):
        prune(tiny_model, latency=0.05, device=tiny_table, criterion="l2", imgsz=64)


def test_a_runtime_that_is_not_installed_here(tiny_model: nn.Module, tmp_path: Path) -> None:
    """On the same machine: the cut is made by what is predicted, and nothing is measured."""
    runtime = next((name for name in ("ncnn", "openvino") if not find_spec(name)), None)
    if runtime is None:
        pytest.skip("every runtime is installed")
    file = write_table(tmp_path / "d.json", tiny_model, runtime=runtime, processor=processor())
    times = prune(tiny_model, latency=SHARE, device=file, criterion="l2", imgsz=64).report.times
    assert times is not None and times.measured is None and times.runtime == f"{runtime} 1.0"
    assert SHARE - 0.03 <= times.share <= SHARE


def test_on_the_machine_of_the_table_it_is_measured(tiny_model: nn.Module, tmp_path: Path) -> None:
    """Measured beside the model, and shown; a made-up table need not come near it."""
    file = write_table(tmp_path / "d.json", tiny_model, processor=processor())
    report = prune(tiny_model, latency=SHARE, device=file, criterion="l2", imgsz=64).report
    assert report.times is not None and report.times.measured is not None
    before, after = report.times.measured
    assert before > 0 and report.target.achieved == pytest.approx(after / before)
    assert "onnxruntime, ms, measured" in report.summary()


def test_prune_by_a_table(
    tiny_checkpoint: Path, tiny_table: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    """The command: what it prints, report.json and the picture."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(tiny_checkpoint), "--imgsz", "64"]
    argv += ["--latency", str(SHARE), "--device", str(tiny_table)]
    assert run("prune", [*argv, "--dry-run"]) == 0
    assert "onnxruntime, ms, predicted" in capfd.readouterr().out
    assert run("prune", argv) == 0
    out = capfd.readouterr().out
    assert "onnxruntime, ms, predicted" in out and "budget device" in out
    folder = tmp_path / "runs/prune/exp"
    report = json.loads((folder / "report.json").read_text())
    assert report["target"]["name"] == "latency"
    assert SHARE - 0.03 <= report["target"]["achieved"] <= SHARE
    assert report["times"]["measured"] is None
    layers = [row["pruned"] for row in report["times"]["layers"]]
    assert sum(layers) == pytest.approx(report["times"]["predicted"][1])
    assert load(folder / "pruned.pt").model is not None
    assert (folder / "channels.png").stat().st_size > 10_000


def test_what_prune_refuses(
    refused: Callable[..., str], tiny_checkpoint: Path, tiny_table: Path, tmp_path: Path
) -> None:
    argv = ["--weights", tiny_checkpoint, "--imgsz", 64]
    by = [*argv, "--latency", 0.6, "--device"]
    assert "--latency S with it" in refused("prune", *argv, "--device", tiny_table)
    assert "--latency S with it" in refused("prune", *argv, "--macs", 0.5, "--device", tiny_table)
    assert "--device nope.json: no such file, expected a tab" in refused("prune", *by, "nope.json")
    line = refused("prune", *by, tiny_checkpoint)  # a file, but none of a table
    assert "damaged, or not written to its end, expected a table" in line
    half = tmp_path / "half.json"
    half.write_text(tiny_table.read_text()[:5000])
    assert "half.json: damaged, or not written to its end" in refused("prune", *by, half)
    other = tmp_path / "other.json"
    other.write_text(tiny_table.read_text().replace('"model.6.conv"', '"model.66.conv"'))
    line = refused("prune", *by, other)
    assert "--device: a table of another model (model.6.conv: not there; here conv 3x3" in line
    line = refused("prune", "--weights", tiny_checkpoint, "--imgsz", 96, *by[4:], tiny_table)
    assert line == "error: --device: a table for 64 px, expected one for 96 px"
    line = refused("prune", *argv, "--latency", 0.05, "--device", tiny_table)
    assert "--latency: 0.05, expected 0." in line and "by the table of the device" in line
    line = refused("prune", *by, tiny_table, "--budget", "uniform")
    assert "--budget: uniform, with --latency, expected none: the table decides" in line
    line = refused("prune", *by, tiny_table, "--threads", 4)
    assert line.startswith("error: --threads: 4, with --device") and "those of the table" in line


def test_slim_by_a_table(
    tiny_checkpoint: Path, tiny_table: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    """What is left of the time, by the table, is the share that was asked for."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), "--imgsz", "64"]
    argv += ["--latency", "0.7", "--device", str(tiny_table), "--epochs", "1"]
    argv += ["--batch-size", "8", "--workers", "0", "--criterion", "l2", "--calib-images", "8"]
    assert run("slim", argv) == 0
    folder = tmp_path / "runs/slim/exp"
    assert (folder / "best.pt").is_file() and not (folder / "device.json").exists()
    dense, slim = (load(file).model for file in (tiny_checkpoint, folder / "best.pt"))
    table = table_of(json.loads(tiny_table.read_text()))
    seconds = []
    for model in (dense, slim):
        whole = parts(Exported(to_onnx(model, imgsz=64), channel_graph(model, "group")))
        of_convs = sum(table.conv(key)[i, o] for key, i, o in whole["convs"])
        seconds.append(of_convs + sum(table.op(key, n)[n] for key, n in whole["ops"]))
    assert 0.66 <= seconds[1] / seconds[0] <= 0.7


def test_slim_refuses_a_table_that_does_not_fit(
    refused: Callable[..., str], tiny_checkpoint: Path, tiny_table: Path, shapes_yaml: Path
) -> None:
    argv = ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--epochs", 3]
    by = [*argv, "--latency", 0.6, "--device", tiny_table]
    line = refused("slim", *by, "--imgsz", 96)
    assert "--device: a table for 64 px, expected one for 96 px" in line
    line = refused("slim", *argv, "--imgsz", 64, "--device", tiny_table)
    assert "without --latency, expected --latency S with it" in line
    line = refused("slim", *by, "--round-to", 8)
    assert "--round-to: 8, with --latency, expected none: the table decides" in line
    line = refused("slim", *argv, "--imgsz", 64, "--latency", 0.05, "--device", tiny_table)
    assert "--latency: 0.05, expected 0." in line


def test_a_saved_cut_is_cut_again(
    cut: Pruned, tiny_table: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = save(cut, tmp_path / "cut.pt")
    argv = ["--weights", str(file), "--imgsz", "64", "--latency", "0.8", "--criterion", "l2"]
    assert run("prune", [*argv, "--device", str(tiny_table), "--dry-run"]) == 0
