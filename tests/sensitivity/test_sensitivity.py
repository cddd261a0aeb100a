"""Sensitivity scans: against evaluate() of models masked by hand, through interruptions, read back.

The scanned model is a random one, with BatchNorms that have seen the images, and the labels are
what it finds itself: its mAP is high, and each cut moves it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from multiprocessing import Pipe, active_children
from pathlib import Path

import cv2
import numpy as np
import pandas
import psutil
import pytest
import torch
import yaml
from conftest import build_tiny
from torch import nn

from yolo_slim import channel_graph, load, save
from yolo_slim.cli import run
from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.host.data import check_data, images
from yolo_slim.host.evaluate import Accuracy, evaluate
from yolo_slim.host.validation import Validation, general, spread
from yolo_slim.numerics import digest
from yolo_slim.pruning.criteria.score import score
from yolo_slim.sensitivity.cuts import Cut, Layer, cut_model, cuts, layers
from yolo_slim.sensitivity.job import Job
from yolo_slim.sensitivity.run import SETTINGS, read_scan, write_scan
from yolo_slim.sensitivity.scan import Row, rising
from yolo_slim.shapes import NAMES, make_shapes
from yolo_slim.workers import serve, workers

pytestmark = pytest.mark.usefixtures("one_thread")
IMGSZ, BORDER, SHARES = 64, 16, ("0.3", "0.8")


def to_batch(files: list[Path]) -> torch.Tensor:
    """(n, 3, 96, 96) in [0, 1]: with the grey border that the host's validation adds."""
    read = [cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1).copy() for file in files]
    images = torch.from_numpy(np.stack(read)).float()
    return nn.functional.pad(images, (BORDER,) * 4, value=114) / 255


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and the data yaml of 6 images with what it finds on them as labels."""
    base, model = tmp_path_factory.mktemp("scanned"), build_tiny()
    folder = make_shapes(base / "shapes", train=2, val=6, size=IMGSZ)
    data = {"path": str(folder), "train": "images/train", "val": "images/val"}
    (base / "data.yaml").write_text(yaml.safe_dump({**data, "names": dict(enumerate(NAMES))}))
    files = sorted((folder / "images" / "val").glob("*.png"))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for conv in model.model[-1].m:  # an eager head, that is seldom sure of an object
            nn.init.normal_(conv.weight, std=1.5 / conv.in_channels**0.5)
            nn.init.zeros_(conv.bias).view(3, -1)[:, 4] = -6
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()(to_batch(files))
        for norm in norms:
            norm.momentum = 0.03
        found = model.eval()(to_batch(files))[0]
    found = general.non_max_suppression(found, 0.001, 0.6, multi_label=True)
    sure = torch.cat(found)[:, 4].sort(descending=True).values[40]
    for file, boxes in zip(files, (boxes[boxes[:, 4] > sure] for boxes in found), strict=True):
        xywh = general.xyxy2xywh((boxes[:, :4] - BORDER).clamp(0, IMGSZ)) / IMGSZ
        rows = torch.cat([boxes[:, 5:], xywh], 1).tolist()
        text = "".join(f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in rows)
        (folder / "labels" / "val" / f"{file.stem}.txt").write_text(text)
    return save(model, base / "model.pt"), base / "data.yaml"


@pytest.fixture
def argv(scanned: tuple[Path, Path], tmp_path: Path) -> Callable[..., list[str]]:
    """argv(...): the options of a scan into tmp_path."""

    def options(*more: object) -> list[str]:
        weights, data = scanned
        fixed = [weights, "--data", data, "--imgsz", IMGSZ, "--device", "cpu", "--shares", *SHARES]
        return [str(a) for a in (*fixed, "--project", tmp_path, *more)]

    return options


@pytest.fixture(scope="module")
def finished(scanned: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted scan of both kinds."""
    base = tmp_path_factory.mktemp("finished")
    options = ["--imgsz", str(IMGSZ), "--device", "cpu", "--shares", *SHARES]
    argv = [str(scanned[0]), "--data", str(scanned[1]), *options, "--project", str(base)]
    assert run("sensitivity", argv) == 0
    return base / "exp"


def smallest(values: torch.Tensor, share: float) -> torch.Tensor:
    """Indices of a share of the smallest values."""
    return values.flatten().argsort()[: round(share * values.numel())]


def test_rows_are_evaluations_of_masked_models(finished, scanned):
    scan, model = read_scan(finished / "sensitivity.csv"), load(scanned[0]).model
    data = check_data(scanned[1], model.nc)

    def measured(changed: nn.Module) -> Accuracy:
        return evaluate(changed, data, imgsz=IMGSZ, workers=0, device="cpu")

    assert scan.dense == measured(model)
    assert scan.dense.map50 > 0.9
    moved = set()
    for row in scan.rows[1::7]:  # each evaluation takes its time
        changed = deepcopy(model)
        module = changed.get_submodule(row.layer)
        if row.kind == "channels":
            gone = smallest(module.weight.abs(), row.share)
            with torch.no_grad():
                module.weight[gone] = module.bias[gone] = 0
            assert (row.channels, row.cut) == (len(module.weight), len(gone) / len(module.weight))
        else:
            gone = smallest(module.weight.abs(), row.share)
            module.weight.data.view(-1)[gone] = 0
            assert row.channels == module.weight.numel()
            assert row.cut == len(gone) / row.channels == (module.weight == 0).float().mean()
        assert Accuracy(row.map50, row.map) == measured(changed)
        moved.add(row.map)
    assert len(moved) > 8  # the cuts did something


def test_the_csv(finished, scanned):
    table = pandas.read_csv(finished / "sensitivity.csv", comment="#")
    model = load(scanned[0]).model
    graph = channel_graph(model)
    convs = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    norms = [norm.name for norm in graph.prunable]
    assert list(table) == ["kind", "layer", "channels", "share", "cut", "map50", "map"]
    assert list(table.kind) == ["dense"] + ["channels"] * 2 * len(norms) + ["weights"] * 2 * 28
    assert len(convs) == 28  # the head's too
    assert list(table.layer[1:]) == [name for name in (*norms, *convs) for _ in SHARES]
    assert list(table.share[1:]) == [0.3, 0.8] * (len(norms) + 28)
    settings = read_scan(finished / "sensitivity.csv").settings
    assert settings["digest"] == digest(model)
    assert (settings["imgsz"], settings["images"], settings["criterion"]) == ("64", "6", "bn")
    assert (settings["residual"], settings["shares"]) == ("skip", "0.3 0.8")
    picture = cv2.imread(str(finished / "sensitivity.png"))
    assert picture.shape[0] > 28 * 0.17 * 120  # a row a layer, that text fits in


class Stop:
    """Interrupt the n-th evaluation from now on, and count them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = -1) -> None:
        self.count, self.at, original = 0, at, Validation.__call__

        def call(validation: Validation, model: nn.Module) -> Accuracy:
            if self.count == self.at:
                raise KeyboardInterrupt
            self.count += 1
            return original(validation, model)

        monkeypatch.setattr(Validation, "__call__", call)


@pytest.mark.parametrize("tail", [b"", b"weights,model.11.cv1.conv,20", b"channels"])
def test_interrupted_and_resumed(tail, finished, argv, tmp_path, monkeypatch, capsys):
    whole = (finished / "sensitivity.csv").read_bytes()
    file, calls = tmp_path / "exp" / "sensitivity.csv", Stop(monkeypatch, at=2)
    assert run("sensitivity", argv()) == 130
    assert f"--resume {file.parent} goes on" in capsys.readouterr().out
    assert len(read_scan(file).rows) == calls.count == 2
    lines = whole.splitlines(keepends=True)  # as if most had been measured, in another order
    file.write_bytes(b"".join([*lines[:14], *lines[19:14:-1], *lines[20:-6]]) + tail)
    calls.count, calls.at = 0, 3
    assert run("sensitivity", argv("--resume", file.parent)) == 130
    calls.count, calls.at = 0, -1
    assert run("sensitivity", argv("--resume", file.parent)) == 0
    assert calls.count == 7 - 3  # nothing was measured twice: one in the middle, six at the end
    assert file.read_bytes() == whole


def test_a_finished_scan_is_not_measured_again(finished, argv, tmp_path, monkeypatch, capsys):
    (tmp_path / "exp").mkdir()
    file = tmp_path / "exp" / "sensitivity.csv"
    file.write_bytes((finished / "sensitivity.csv").read_bytes())
    calls = Stop(monkeypatch)
    assert run("sensitivity", argv("--resume", file.parent)) == 0
    assert (calls.count, file.with_suffix(".png").is_file()) == (0, True)
    out = capsys.readouterr().out
    assert f"python prune.py --weights {argv()[0]} --budget {file}" in out
    scan = read_scan(file)
    lost = {name: sum(r.map for r in rows) for name, rows in scan.by_layer("weights").items()}
    first = out.split("weights is cut")[1].split("---\n")[1].split()[0]
    assert first == min(lost, key=lost.get).removesuffix(".conv")


def test_killed_with_two_processes_and_resumed(finished, argv, tmp_path):
    whole = [r for r in read_scan(finished / "sensitivity.csv").rows if r.kind != "weights"]
    file = tmp_path / "exp" / "sensitivity.csv"
    options = argv("--kind", "channels")
    command = "import sys; from yolo_slim.cli import run; sys.exit(run('sensitivity'))"
    process = subprocess.Popen(
        [sys.executable, "-c", command, *options, "--processes", "2"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # what a killed one leaves behind
    )
    while process.poll() is None and not (file.exists() and len(read_scan(file).rows) > 4):
        time.sleep(0.02)
    children = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert len(children) >= 2
    before = read_scan(file).rows
    assert 5 <= len(before) < len(whole)
    assert psutil.wait_procs(children, timeout=20)[1] == []  # they saw it end
    assert run("sensitivity", [*options, "--resume", str(file.parent)]) == 0
    assert list(read_scan(file).rows) == whole  # two processes measured what one does
    assert set(before) < set(whole)


def test_workers(scanned, finished):
    model = load(scanned[0]).model
    graph = channel_graph(model)
    probes = list(cuts(model, graph, score(model, graph), ["channels"], [0.3]))[:4]
    job = Job(scanned[0], check_data(scanned[1]), IMGSZ, 6, device="cpu")
    with workers(job, 2) as measure:
        rows = sorted(
            measure(probes), key=lambda row: [p.layer.name for p in probes].index(row.layer)
        )
        assert rows == list(read_scan(finished / "sensitivity.csv").rows[1:9:2])
        with pytest.raises(InputError, match=r"^share: 2, expected a share in \[0, 1\]$"):
            list(measure([Cut(Layer("weights", "model.0.conv", 864), 2.0)]))
        with pytest.raises(CheckFailed, match=r"a worker died .exit code 0.*--resume goes on"):
            list(measure(probes))
    assert active_children() == []


def test_a_worker_that_fails_says_where(scanned, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    ours, theirs = Pipe()
    ours.send(Cut(Layer("weights", "nowhere", 1), 0.5))
    serve(theirs, Job(scanned[0], check_data(scanned[1]), IMGSZ, 6, "cpu"), str(tmp_path))
    answer = ours.recv()
    assert isinstance(answer, RuntimeError)
    assert re.search(r"a worker failed\n(.|\n)*cut_model(.|\n)*nowhere", str(answer))


@pytest.mark.parametrize("count", [None, 6, 4])
def test_validation_is_evaluate(count, scanned, monkeypatch):
    model = load(scanned[0]).model
    before = deepcopy(model.state_dict())
    data = check_data(scanned[1], model.nc)
    validation = Validation(model, data, imgsz=IMGSZ, images=count, device="cpu", progress=False)
    assert validation.images == (count or 6)
    if count in (None, 6):
        expected = evaluate(model, data, imgsz=IMGSZ, workers=0, device="cpu")
        assert validation(model) == validation(model) == expected
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_validation_prints_nothing(scanned, capfd):
    model = load(scanned[0]).model
    data = check_data(scanned[1], model.nc)
    capfd.readouterr()
    Validation(model, data, imgsz=IMGSZ, device="cpu", progress=False)(model)
    assert capfd.readouterr() == ("", "")


def test_spread():
    files = [Path(str(i)) for i in range(10)]
    assert spread(files, None) == spread(files, 10) == spread(files, 99) == files
    assert [int(f.name) for f in spread(files, 4)] == [0, 3, 6, 9]
    assert [int(f.name) for f in spread(files, 1)] == [0]


def test_tied_layers_are_one(tiny_model):
    def names(residual: str) -> dict[str, tuple[int, tuple[str, ...]]]:
        graph = channel_graph(tiny_model, residual)
        found = layers(tiny_model, graph, "channels")
        assert sum(layer.size for layer in found) == graph.prunable_channels
        return {layer.name: (layer.size, layer.norms) for layer in found}

    skip, group = names("skip"), names("group")
    assert "model.4.cv1.bn" not in skip
    tied = ("model.4.cv1.bn", "model.4.m.0.cv2.bn", "model.4.m.1.cv2.bn")
    assert group["model.4.cv1.bn"] == (48, tied)
    assert "model.4.m.0.cv2.bn" not in group
    assert skip["model.3.bn"] == group["model.3.bn"] == (32, ("model.3.bn",))


def test_cuts_of_tied_layers(tiny_model):
    before = deepcopy(tiny_model.state_dict())
    graph = channel_graph(tiny_model, "group")
    scores = score(tiny_model, graph)
    probes = {
        (c.layer.name, c.share): c
        for c in cuts(tiny_model, graph, scores, ["channels"], [0.25, 0.99])
    }
    tied = ("model.4.cv1.bn", "model.4.m.0.cv2.bn", "model.4.m.1.cv2.bn")
    mean = torch.stack([scores[name] for name in tied]).mean(0)
    copy, gone = cut_model(tiny_model, probes["model.4.cv1.bn", 0.25])
    assert gone == 0.25
    for name in tied:
        silent = copy.get_submodule(name).weight == 0
        assert set(silent.nonzero().flatten().tolist()) == set(smallest(mean, 0.25).tolist())
    _, gone = cut_model(tiny_model, probes["model.0.bn", 0.99])
    assert gone == 7 / 8  # a channel stays
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


def test_digest(tiny_model, tmp_path):
    first = digest(tiny_model)
    assert (
        first
        == digest(deepcopy(tiny_model))
        == digest(load(save(tiny_model, tmp_path / "a.pt")).model)
    )
    tiny_model.model[0].bn.running_mean[3] += 1e-3
    assert len(first) == 12 != digest(tiny_model)


def test_rising():
    points = [(0.75, 0.3), (0.25, -0.01), (0.5, 0.2), (0.25, -0.01), (0.9, 0.25)]
    assert rising(points) == [(0, 0), (0.25, 0), (0.5, 0.2), (0.75, 0.3), (0.9, 0.3)]
    assert rising([(0.0, 0.0), (0.5, 0.1)]) == [(0, 0), (0.5, 0.1)]


@pytest.fixture
def written(tiny_model: nn.Module, tmp_path: Path) -> Callable[..., Path]:
    """written(model, residual): a made-up scan of it; the loss is share times (index + 1) / 100."""

    def write(residual: str = "skip", drop: int = 0, **settings: str) -> Path:
        graph = channel_graph(tiny_model, residual)
        known = dict.fromkeys(SETTINGS, "x") | {"digest": digest(tiny_model), "shares": "0.5 0.8"}
        known |= {"kinds": "channels", "residual": residual} | settings
        rows = [Row("dense", "-", 0, 0.0, 0.0, 0.9, 0.6)]
        for index, layer in enumerate(layers(tiny_model, graph, "channels")):
            for share in (0.5, 0.8):
                left = 0.6 - share * (index + 1) / 100
                rows.append(Row("channels", layer.name, layer.size, share, share, left + 0.2, left))
        return write_scan(tmp_path / "scan.csv", known, rows[: len(rows) - drop])

    return write


def test_losses(tiny_model, written):
    scan, graph = read_scan(written()), channel_graph(tiny_model)
    curves = scan.losses(graph, tiny_model)
    assert list(curves) == [norm.name for norm in graph.prunable]
    for index, curve in enumerate(curves.values()):
        assert [share for share, _ in curve] == [0, 0.5, 0.8]
        expected = [0, 0.005 * (index + 1), 0.008 * (index + 1)]
        assert [loss for _, loss in curve] == pytest.approx(expected)
    first = scan.losses(graph, tiny_model, metric="map50")["model.0.bn"]
    assert [loss for _, loss in first] == pytest.approx([0, 0.105, 0.108])


def test_losses_of_tied_layers(tiny_model, written):
    graph = channel_graph(tiny_model, "group")
    scan = read_scan(written("group"))
    curves = scan.losses(graph, tiny_model)
    assert set(curves) == {norm.name for norm in graph.prunable}
    assert curves["model.4.cv1.bn"] == curves["model.4.m.1.cv2.bn"] != curves["model.4.cv2.bn"]


def test_losses_refuse_what_does_not_fit(tiny_model, written):
    graph, other = channel_graph(tiny_model), build_tiny(1)
    scan = read_scan(written())
    with pytest.raises(
        InputError, match=rf"scan.csv: of another model .weights {digest(tiny_model)}"
    ):
        scan.losses(channel_graph(other), other)
    with pytest.raises(InputError, match="a scan of channels, expected one of weights"):
        scan.losses(graph, tiny_model, "weights")
    with pytest.raises(InputError, match="a scan with --residual skip, expected .* group"):
        scan.losses(channel_graph(tiny_model, "group"), tiny_model)
    unfinished = read_scan(written(drop=3))
    with pytest.raises(
        InputError, match=r"1 of 2 results, an unfinished scan.*--resume .* goes on"
    ):
        unfinished.losses(graph, tiny_model)


DAMAGE = {
    "not a scan": lambda text: "kind,layer\n",
    "not a scan ": lambda text: text.replace("# imgsz: x\n", ""),
    "other columns": lambda text: text.replace("kind,layer", "layer,kind"),
    "no result": lambda text: text[: text.index("dense,")],
    "line 13: 'channels,-": lambda text: text.replace("dense,-", "channels,-"),
    "line 15: 'channels,model.0.bn,8,0.8": lambda text: text.replace("8,0.8,0.8", "8,0.8,nan"),
    "line 14: 'channels,model.0.bn,8.5": lambda text: text.replace("bn,8,0.5", "bn,8.5,0.5"),
    "line 15: 'channels,model.0.bn,8,0.5": lambda text: text.replace("8,0.8,0.8", "8,0.5,0.8"),
    "line 14: ''": lambda text: text.replace("channels,model.0.bn,8,0.5", "\nx", 1),
}


@pytest.mark.parametrize("expected", DAMAGE)
def test_a_damaged_file(expected, written):
    file = written()
    text = file.read_text()
    file.write_text(DAMAGE[expected](text))
    assert file.read_text() != text
    with pytest.raises(InputError, match=re.escape(expected.strip())):
        read_scan(file)


def test_not_utf8(tmp_path):
    (tmp_path / "scan.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a scan"):
        read_scan(tmp_path / "scan.csv")


REFUSED = [
    (["--shares", "0.5", "1"], "--shares: 1.0, expected shares in (0, 1)"),
    (["--shares", "0"], "--shares: 0.0, expected shares in (0, 1)"),
    (["--shares", "nan"], "--shares: nan"),
    (["--kind", "filters"], "invalid choice: 'filters'"),
    (["--criterion", "tailor"], "--criterion: 'tailor', expected taylor?"),
    (["--processes", "0"], "--processes: 0, expected 1 or more"),
    (["--images", "0"], "--images: 0, expected 1 or more"),
    (["--imgsz", "100"], "--imgsz: 100, expected a multiple of the stride"),
    (["--device", "cuda:77"], "--device: cuda:77"),
    (["--data", "none.yaml"], "none.yaml: no such file"),
    (["--split", "test"], "no entry test, expected the images of test"),
    (["--resume", "nowhere"], "--resume: nowhere, expected the folder of a scan"),
]


@pytest.mark.parametrize(("more", "expected"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_refused(more, expected, argv, refused):
    assert expected in refused("sensitivity", *argv(), *more)


def test_resuming_another_scan_is_refused(finished, argv, refused, tiny_checkpoint):
    resume = ["--resume", finished]
    assert "made with shares 0.3 0.8, expected the same options (now 0.5)" in refused(
        "sensitivity", *argv(*resume), "--shares", "0.5"
    )
    assert "made with kinds channels weights, expected the same" in refused(
        "sensitivity", *argv(*resume), "--kind", "weights"
    )
    assert "made with images 6, expected the same options (now 3)" in refused(
        "sensitivity", *argv(*resume), "--images", "3"
    )
    line = refused("sensitivity", tiny_checkpoint, *argv(*resume)[1:])
    assert "of another model (weights" in line


def test_nothing_to_lose_or_to_cut(tiny_model, argv, refused, tmp_path):
    for conv in tiny_model.model[-1].m:
        nn.init.constant_(conv.bias, -20.0)  # it finds nothing
    weights = save(tiny_model, tmp_path / "blind.pt")
    assert "blind.pt: mAP50 0 on these images" in refused("sensitivity", weights, *argv()[1:])


def test_labels_are_needed(scanned, refused, argv, tmp_path):
    data = yaml.safe_load(scanned[1].read_text())
    folder = tmp_path / "bare" / "images"
    folder.mkdir(parents=True)
    for file in images(check_data(scanned[1])):
        (folder / file.name).write_bytes(file.read_bytes())
    data |= {"path": str(folder.parent), "train": "images", "val": "images"}
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(data))
    line = refused("sensitivity", *argv(), "--data", tmp_path / "bare.yaml")
    assert "6 images without labels" in line


def test_a_criterion_that_looks_at_images(argv, tmp_path):
    assert (
        run("sensitivity", argv("--kind", "channels", "--criterion", "taylor", "--images", 3)) == 0
    )
    scan = read_scan(tmp_path / "exp" / "sensitivity.csv")
    assert (scan.settings["criterion"], scan.kinds) == ("taylor", ["channels"])


def test_help_is_light():
    command = "import sys; from yolo_slim.commands.sensitivity import parse; parse(['--help'])"
    command = (
        f"import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); {command}"
    )
    text = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout
    assert "--processes" in text
    assert text.endswith("False\n")
