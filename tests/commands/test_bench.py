"""bench: figures side by side, of checkpoints and of files for all runtimes; what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_files import write_onnx
from torch import nn

from yolo_slim import load, save
from yolo_slim.cli import run
from yolo_slim.commands.bench import main, size_of
from yolo_slim.commands.bench_options import title_of
from yolo_slim.deploy.export import exportable, to_onnx
from yolo_slim.deploy.formats import FORMATS, Format
from yolo_slim.deploy.int8.cpu import this_cpu
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.deploy.stock import to_stock
from yolo_slim.finegrained.weights import sparsify_
from yolo_slim.host.classes import yolo
from yolo_slim.host.head import with_classes
from yolo_slim.measure.cost import Cost, cost
from yolo_slim.measure.latency import Latency, interleaved, onnx_call, torch_call, torch_threads
from yolo_slim.report.bench_table import Measured, eight_bit_lines
from yolo_slim.report.heads import Head, head_of_network
from yolo_slim.runtimes import RUNTIMES, opened

ROWS = [row for row in FORMATS.values() if row.suffix in RUNTIMES]
QUICK = ["--threads", 1, "--repeats", 2, "--no-memory"]

pytestmark = pytest.mark.usefixtures("one_thread")


def onnx_of(model: nn.Module, path: Path, **options: object) -> Path:
    path.write_bytes(to_onnx(model, **options))
    return path


@pytest.fixture(scope="module")
def tiny_onnx(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model for one image of 64 px."""
    return onnx_of(load(tiny_checkpoint).model, tmp_path_factory.mktemp("o") / "t.onnx", imgsz=64)


def bench(*argv: object) -> list:
    return main([str(a) for a in [*argv, *QUICK]])


def test_side_by_side(tiny_checkpoint, pruned_tiny, tiny_onnx, tmp_path, capsys) -> None:
    """Two checkpoints and an ONNX file: figures, shares of the first, the table, the JSON file."""
    before = torch.get_num_threads()
    file = tmp_path / "new" / "bench.json"
    dense, slim, exported = bench(tiny_checkpoint, pruned_tiny, tiny_onnx, "--json", file)
    assert torch.get_num_threads() == before
    for found, path in ((dense, tiny_checkpoint), (slim, pruned_tiny)):
        assert found.cost == cost(load(path).model, 64, path)
        assert set(found.latency) == {"torch", "onnx"}
    assert exported.cost.macs == dense.cost.macs
    assert exported.cost.params < dense.cost.params
    assert set(exported.latency) == {"onnx"}
    left = slim.left(dense)
    assert left["macs"] == slim.cost.macs / dense.cost.macs < 1
    assert left["onnx"] == slim.latency["onnx"].median / dense.latency["onnx"].median
    assert set(exported.left(dense)) == {"params", "macs", "bytes", "onnx"}
    content = json.loads(file.read_text())
    assert content["imgsz"] == 64  # that of the ONNX file
    assert [content[key] for key in ("batch_size", "threads", "repeats")] == [1, 1, 2]
    assert [m["file"] for m in content["models"]] == [
        str(path) for path in (tiny_checkpoint, pruned_tiny, tiny_onnx)
    ]
    assert content["models"][1]["cost"]["macs"] == slim.cost.macs
    assert content["models"][1]["left"] == left
    assert content["models"][1]["latency"]["torch"]["median"] == slim.latency["torch"].median
    text = capsys.readouterr().out
    for expected in (f"{slim.cost.params:,}", f"{left['params']:.1%}", "BatchNorms folded"):
        assert expected in text
    assert list(file.parent.iterdir()) == [file]


def test_models_of_different_tasks(tiny_model, tiny_yaml, tmp_path, capsys) -> None:
    """Two classes in place of four, other names, an ONNX file, another stride, masks."""
    first = save(tiny_model, tmp_path / "first.pt")
    two = yolo.DetectionModel({**tiny_yaml, "nc": 2})
    other = save(with_classes(tiny_model, dict(enumerate("wxyz"))), tmp_path / "other.pt")
    files = [save(two, tmp_path / "two.pt"), onnx_of(two, tmp_path / "two.onnx", imgsz=64), other]
    bench(first, first, *files, "--imgsz", 64, "--runtime", "onnx")
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("Another task: ") == 3
    for file in files[:2]:
        assert f"Another task: {file} has 2 classes, the first model 4." in text
    assert f"Another task: {other} has other classes (w, x, y, ...) than the first model." in text
    plain, masks = (Head(task, ("a",), None) for task in ("detection", "segmentation"))
    assert masks.unlike(plain) == "a head for segmentation, the first model one for detection"
    large = Head("detection", ("a",), (8, 16, 32, 64))
    assert large.unlike(plain) == ""  # of an ONNX file, which does not say
    assert "strides 8, 16, 32, 64, the first" in large.unlike(replace(plain, strides=(8, 16, 32)))


def test_the_head_of_an_exported_file(tiny_onnx, tmp_path) -> None:
    image = np.zeros((1, 3, 64, 64), np.float32)
    network = opened(tiny_onnx, 1)
    head = head_of_network(network, network(image))
    assert head is not None and (head.task, len(head.names)) == ("detection", 4)
    masks = head_of_network(network, [image[0], image])
    assert masks is not None and masks.task == "segmentation"
    node = [helper.make_node("Relu", ["x"], ["y"])]
    made = opened(write_onnx(tmp_path / "r.onnx", node, {}, [1, 3, 8, 8], "y"), 1)
    assert head_of_network(made, []) is None


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model in each format that has a runtime, for images of 96 x 64 px."""
    folder, options = tmp_path_factory.mktemp("exported"), ExportOptions((96, 64))
    model = load(tiny_checkpoint).model
    return {row.name: row.put(folder, "tiny", row.write(model, options)) for row in ROWS}


def test_all_formats_side_by_side(exported, tiny_checkpoint, tmp_path, capsys) -> None:
    """Each in its runtime, at the size that is fixed in them; time and memory of each."""
    argv = [tiny_checkpoint, *exported.values(), "--json", tmp_path / "a.json"]
    models = main([str(a) for a in [*argv, *QUICK[:-1]]])
    assert set(models[0].latency) == set(models[0].memory) == {"torch", "onnx"}
    for found, (name, path) in zip(models[1:], exported.items(), strict=True):
        assert set(found.latency) == set(found.memory) == {name}
        assert found.memory[name].peak > found.memory[name].before > 2**20
        assert found.bytes == size_of(path) > 10_000
        if found.cost:
            assert (
                found.cost.macs == models[0].cost.macs == cost(load(argv[0]).model, (96, 64)).macs
            )
            assert found.cost.params == models[1].cost.params
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["imgsz"] == [96, 64]
    assert {"torch", "onnxruntime", "openvino"} <= set(content["versions"])
    assert all(content["versions"].values())
    assert content["models"][1]["memory"]["onnx"]["peak"] == models[1].memory["onnx"].peak
    text = capsys.readouterr().out
    assert "1 image of 96 x 64 px (height x width) a call" in text
    for row in ROWS:
        assert f"{title_of(row.name)} " in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_checkpoint_in_one_runtime(row: Format, tiny_checkpoint, exported) -> None:
    """It is exported for it; a file of the same runtime is compared with it, others are not."""
    others = [path for name, path in exported.items() if name != row.name][:1]
    argv = [tiny_checkpoint, exported[row.name], *others, "--runtime", row.name]
    checkpoint, same, other = bench(*argv)
    assert set(checkpoint.latency) == set(same.latency) == {row.name}
    assert row.name in same.left(checkpoint)
    assert not other.latency


def test_the_file_that_stands_for_its_folder(exported) -> None:
    folder = exported["openvino"]
    found = bench(next(folder.glob("*.xml")))[0]
    assert found.bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_files_may_follow_the_size(tiny_checkpoint, pruned_tiny) -> None:
    argv = ["--runtime", "torch", "--imgsz", "96", "64", tiny_checkpoint, pruned_tiny]
    first, second = bench(*argv)
    assert first.cost == cost(load(tiny_checkpoint).model, (96, 64), tiny_checkpoint)
    assert second.cost == cost(load(pruned_tiny).model, (96, 64), pruned_tiny)


def test_8_bits_are_compared_with_floats() -> None:
    """With a file of as many MACs in the same runtime, best with an exported one."""

    def model(name: str, macs: int, ms: float, in_8_bits: bool = False) -> Measured:
        latency = {"onnx": Latency(ms, 0.1)}
        return Measured(Path(name), 9, Cost(9, macs, 64), latency, in_8_bits=in_8_bits)

    floats = [model("dense.onnx", 100, 9.0), model("cut.pt", 50, 4.0), model("cut.onnx", 50, 5.0)]
    for ms, verdict in ((2.5, "faster"), (5.1, "as fast"), (7.5, "slower")):
        lines = eight_bit_lines([*floats, model("cut-int8.onnx", 50, ms, True)], title_of)
        text = f"cut-int8.onnx, in 8 bits, is {verdict} here: {ms / 5:.2f} of the time of cut.onnx"
        assert lines == [f"{text} in ONNX Runtime.", f"{this_cpu()}."]
    assert eight_bit_lines([floats[0], model("cut-int8.onnx", 50, 1.0, True)], title_of) == []


def test_what_cannot_be_counted_is_timed(tmp_path, capsys) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Cast", ["at"], ["rows"], to=1),
        helper.make_node("MatMul", ["w", "rows"], ["y"]),
    ]
    file = write_onnx(tmp_path / "a.onnx", nodes, {"w": (2, 4)}, [1, 3, 8, 8], "y")
    found = bench(file)[0]
    assert found.cost is None and found.latency["onnx"].median > 0
    assert "not counted: the shape of rows cannot be told" in capsys.readouterr().err


def test_memory_that_cannot_be_measured(exported, monkeypatch, capsys) -> None:
    """A process that fails is told in a line, and the run goes on."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    found = main([str(exported["onnx"]), *map(str, QUICK[:-1])])[0]
    assert found.latency and not found.memory
    assert "tiny.onnx, ONNX Runtime: its memory is not measured: " in capsys.readouterr().err


def test_layers_and_one_runtime(tiny_checkpoint, capsys) -> None:
    found = bench(tiny_checkpoint, "--imgsz", 64, "--runtime", "torch", "--layers")[0]
    assert set(found.latency) == {"torch"}
    assert sum(layer.macs for layer in found.layers) == found.cost.macs
    text = capsys.readouterr().out
    assert "model.4.m.1.cv2.conv" in text
    assert "ONNX" not in text


def test_what_yolo_slim_writes(tiny_model, pruned_tiny, tmp_path) -> None:
    """A stock checkpoint and one with single weights cut have the shapes of what they come from."""
    stock = tmp_path / "stock.pt"
    stock.write_bytes(to_stock(load(pruned_tiny).model))
    sparsify_(tiny_model, 0.5)
    sparse = save(tiny_model, tmp_path / "sparse.pt")
    a, b, c = bench(pruned_tiny, stock, sparse, "--imgsz", 64, "--runtime", "torch")
    assert (a.cost.params, a.cost.macs) == (b.cost.params, b.cost.macs)
    assert c.cost.params == cost(tiny_model, 64).params


def test_sizes_come_from_the_onnx_files(tiny_model, tmp_path) -> None:
    """A dynamic file takes what a fixed one, or the user, says."""
    dynamic = onnx_of(tiny_model, tmp_path / "dynamic.onnx", imgsz=64, dynamic=True)
    fixed = onnx_of(tiny_model, tmp_path / "fixed.onnx", imgsz=96, batch=2)
    first, second = bench(dynamic, fixed, "--json", tmp_path / "a.json")
    assert first.cost.macs == second.cost.macs == cost(tiny_model, 96).macs
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["imgsz"], content["batch_size"]) == (96, 2)
    assert bench(dynamic, "--imgsz", 32)[0].cost.macs == cost(tiny_model, 32).macs


def test_the_calls_that_are_timed(tiny_model, tiny_onnx) -> None:
    """Both runtimes compute the same from the same images, in turns, each as often as asked."""
    images = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    with torch.no_grad():
        fused = torch_call(exportable(tiny_model), images)
    runtime, counts = onnx_call(tiny_onnx.read_bytes(), images, 1), {"torch": 0, "onnx": 0}
    np.testing.assert_allclose(fused()[0].numpy(), runtime()[0], rtol=1e-3, atol=1e-3)
    assert fused()[0].is_inference()

    def counted(name, call):
        def work():
            counts[name] += 1
            return call()

        return work

    calls = {name: counted(name, c) for name, c in (("torch", fused), ("onnx", runtime))}
    found = interleaved(calls, repeats=3, warmup=2)
    assert counts == {"torch": 5, "onnx": 5}
    assert all(latency.median > 0 for latency in found.values())


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom yolo_slim.cli import run\n"
        "try:\n    run('bench', ['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(bool({'torch', 'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_as_a_user_runs_it(tiny_onnx, capsys) -> None:
    assert run("bench", [str(tiny_onnx), *map(str, QUICK)]) == 0
    text = capsys.readouterr().out
    assert tiny_onnx.name in text
    assert "of the first" not in text  # there is nothing to compare with
