"""bench: ONNX files counted by hand and against the models they come from; figures side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from zoo import build, zoo

from yolo_slim import load, save
from yolo_slim.cli import run
from yolo_slim.commands.bench import main
from yolo_slim.deploy.export import exportable, to_onnx
from yolo_slim.deploy.stock import to_stock
from yolo_slim.errors import InputError
from yolo_slim.finegrained.weights import sparsify_
from yolo_slim.host.classes import yolo
from yolo_slim.host.head import with_classes
from yolo_slim.measure.cost import cost
from yolo_slim.measure.latency import interleaved, onnx_call, torch_call, torch_threads
from yolo_slim.measure.onnx_cost import onnx_cost, read_onnx
from yolo_slim.report.bench_table import labels
from yolo_slim.report.heads import Head, head_of_onnx

ZOO = {file.stem: file for file in zoo()}
QUICK = ["--threads", 1, "--repeats", 2]

pytestmark = pytest.mark.usefixtures("one_thread")


def write_onnx(
    path: Path, nodes: list, weights: dict, shape: list, out: str, kind: int = TensorProto.FLOAT
) -> Path:
    """An ONNX file with the input `x` and zeros of these shapes for weights."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(out, kind, None)],
        [numpy_helper.from_array(np.zeros(s, dtype), n) for n, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def onnx_of(model: nn.Module, path: Path, **options: object) -> Path:
    path.write_bytes(to_onnx(model, **options))
    return path


@pytest.fixture(scope="module")
def tiny_onnx(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model for one image of 64 px."""
    return onnx_of(load(tiny_checkpoint).model, tmp_path_factory.mktemp("o") / "t.onnx", imgsz=64)


def bench(*argv: object) -> list:
    return main([str(a) for a in [*argv, *QUICK]])


def test_onnx_operators_by_hand(tmp_path: Path) -> None:
    """Batch 2, 8 px: each operator's MACs, and which of the stored tensors are parameters."""
    value = numpy_helper.from_array(np.zeros((6, 5), np.float32))
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "g", "b", "mean", "var"], ["n"]),
        helper.make_node("Conv", ["n", "w2"], ["d"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["d", "w3"], ["t"], strides=[2, 2]),
        helper.make_node("Mul", ["t", "grid"], ["m"]),
        helper.make_node("GlobalAveragePool", ["m"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Constant", [], ["w4"], value=value),
        helper.make_node("MatMul", ["f", "w4"], ["y"]),
        helper.make_node("Add", ["b4", "y"], ["z"]),
        helper.make_node("Gemm", ["z", "w5", "b5"], ["out"], transB=1),
    ]
    weights = {"w1": (4, 3, 3, 3), "b1": (4,), "g": (4,), "b": (4,), "mean": (4,), "var": (4,)}
    weights |= {"w2": (4, 1, 3, 3), "w3": (4, 6, 2, 2), "grid": (1, 6, 8, 8), "b4": (5,)}
    weights |= {"w5": (7, 5), "b5": (7,)}
    file = read_onnx(write_onnx(tmp_path / "a.onnx", nodes, weights, [2, 3, 8, 8], "out"))
    assert (file.shape, file.dtype) == ((2, 3, 8, 8), np.float32)
    found = onnx_cost(file, (2, 3, 8, 8))
    conv, depthwise, transposed = 16 * 9 * 3 * 4, 16 * 9 * 4, 16 * 4 * 6 * 4
    assert found.macs == conv + depthwise + transposed + 6 * 5 + 5 * 7
    params = (27 * 4 + 4) + 2 * 4 + 9 * 4 + 4 * 6 * 4 + (6 * 5 + 5) + (5 * 7 + 7)
    assert (found.params, found.imgsz) == (params, 8)
    assert found.bytes == file.path.stat().st_size


@pytest.mark.parametrize(
    ("name", "dynamic"),
    [("yolov5s-transformer", True), ("yolov5n-seg", False), ("yolov3-tiny", True)],
)
def test_an_export_costs_what_its_model_does(name: str, dynamic: bool, tmp_path: Path) -> None:
    """MACs are equal; parameters are those of the fused model, but for biases that are zero."""
    model = build(ZOO[name], width=0.125 if name != "yolov3-tiny" else 0.25)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.normal_(module.in_proj_bias)
                nn.init.normal_(module.out_proj.bias)
        fused = exportable(model)
    file = onnx_of(model, tmp_path / "a.onnx", imgsz=64, batch=2, dynamic=dynamic)
    found, expected = onnx_cost(read_onnx(file), (2, 3, 64, 64)), cost(fused, 64)
    assert (found.macs, found.params) == (expected.macs, expected.params)
    assert found.macs == cost(model, 64).macs


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


def test_the_head_of_an_onnx_file(tiny_onnx, tmp_path) -> None:
    head = head_of_onnx(read_onnx(tiny_onnx))
    assert head is not None and (head.task, len(head.names)) == ("detection", 4)
    node = [helper.make_node("Relu", ["x"], ["y"])]
    made = write_onnx(tmp_path / "r.onnx", node, {}, [1, 3, 8, 8], "y")
    assert head_of_onnx(read_onnx(made)) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["exp/weights/best.pt", "x/weights/best.pt"],
            ["exp/weights/best.pt", "x/weights/best.pt"],
        ),
        (["exp10/weights/best.pt", "x/weights/best.pt"], ["exp10/.../best.pt", "x/.../best.pt"]),
        (["a.pt", "b/a.pt"], ["a.pt", "b/a.pt"]),
        (["x/a.pt", "x/a.pt"], ["a.pt", "a.pt"]),
        (
            ["a-long-experiment-1/best.pt", "a-long-experiment-2/best.pt"],
            ["a-long-e...1/best.pt", "a-long-e...2/best.pt"],
        ),
        (
            ["1-long-experiment-x/best.pt", "2-long-experiment-x/best.pt"],
            ["1-long-e...x/best.pt", "2-long-e...x/best.pt"],
        ),
        (
            ["a-long-thing/1/of-the-long-things.pt", "a-long-thing/2/of-the-long-things.pt"],
            ["1/of-the...things.pt", "2/of-the...things.pt"],
        ),
        (
            [
                "long-experiment-1-of-long-experiments.pt",
                "long-experiment-2-of-long-experiments.pt",
            ],
            ["1 ...xperiments.pt", "2 ...xperiments.pt"],
        ),
    ],
)
def test_names_are_shortened_where_they_do_not_differ(files, expected) -> None:
    found = labels([Path("/runs") / file for file in files], 20)
    assert found == expected
    assert max(map(len, found)) <= 20


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


def test_half_precision_onnx(tmp_path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    kind = TensorProto.FLOAT16
    file = write_onnx(tmp_path / "h.onnx", nodes, {"w": (4, 3, 1, 1)}, [1, 3, 8, 8], "y", kind)
    found = bench(file)[0]
    assert (found.cost.macs, found.cost.params) == (64 * 3 * 4, 12)
    assert found.latency["onnx"].median > 0


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


BAD = [
    (["none.pt"], "none.pt: no such file"),
    (["none.onnx"], "none.onnx: no such file, expected an ONNX file"),
    (["."], "a folder"),
    (["text.pt"], "not a checkpoint"),
    (["text.onnx"], "text.onnx: not an ONNX file, or damaged"),
    (["empty.onnx"], "empty.onnx: an empty file, expected an ONNX file"),
    (["cut.onnx"], "cut.onnx: not an ONNX file, or damaged"),
    (["wide.onnx"], "wide.onnx: it takes images of 8 x 16 px, expected square ones"),
    (["flat.onnx"], "flat.onnx: inputs x [1, 8] float32, expected one input of images"),
    (["odd.onnx"], "odd.onnx: ONNX Runtime refuses it"),
    (["foreign.onnx"], "foreign.onnx: ONNX Runtime refuses it"),
    (["tiny.onnx", "--imgsz", "96"], "tiny.onnx, --imgsz: 64 is fixed in it, 96 given"),
    (["tiny.onnx", "--batch-size", "2"], "tiny.onnx, --batch-size: 1 is fixed in it, 2 given"),
    (["tiny.onnx", "other.onnx"], "other.onnx, --imgsz: 96 is fixed in it, 64 given or fixed"),
    (["tiny.onnx", "--layers"], "--layers: given for ONNX files alone"),
    (["tiny.onnx", "--runtime", "torch"], "--runtime: torch, for ONNX files alone"),
    (["tiny.onnx", "--json", "."], "--json: ., a folder, expected a file to write"),
    (["tiny.onnx", "--json", "text.pt/a.json"], "text.pt: cannot be written"),
    (["tiny.pt", "--imgsz", "100"], "--imgsz: 100, expected a multiple of the stride, 32"),
    (["tiny.pt", "--imgsz", "0"], "--imgsz: 0, expected 1 or more"),
    (["tiny.pt", "--batch-size", "0"], "--batch-size: 0, expected 1 or more"),
    (["tiny.pt", "--repeats", "1"], "--repeats: 1, expected 2 or more"),
    (["tiny.pt", "--threads", "0"], "--threads: 0, expected 1 or more"),
    (["tiny.pt", "--runtime", "cuda"], "invalid choice: 'cuda'"),
    (["grey.pt"], "grey.pt: images of 1 channel, expected 3, RGB"),
    ([], "the following arguments are required: FILE"),
]


@pytest.fixture(scope="module")
def bad_files(tiny_checkpoint, tiny_onnx, tmp_path_factory) -> Path:
    """Files that bench must refuse, and tiny.pt and tiny.onnx that it takes."""
    folder = tmp_path_factory.mktemp("bad")
    content = tiny_onnx.read_bytes()
    (folder / "text.pt").write_text("a text")
    (folder / "text.onnx").write_text("a text")
    (folder / "empty.onnx").touch()
    (folder / "cut.onnx").write_bytes(content[: len(content) // 2])
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    write_onnx(folder / "wide.onnx", relu, {}, [1, 3, 8, 16], "y")
    write_onnx(folder / "flat.onnx", relu, {}, [1, 8], "y")
    write_onnx(folder / "other.onnx", relu, {}, [1, 3, 96, 96], "y")
    odd = [helper.make_node("Conv", ["x", "w"], ["y"])]  # weights of another number of channels
    write_onnx(folder / "odd.onnx", odd, {"w": (4, 5, 1, 1)}, [1, 3, 8, 8], "y")
    other = [helper.make_node("Lens", ["x"], ["y"])]
    write_onnx(folder / "foreign.onnx", other, {}, [1, 3, 8, 8], "y")
    (folder / "tiny.onnx").write_bytes(content)
    (folder / "tiny.pt").write_bytes(tiny_checkpoint.read_bytes())
    return folder


@pytest.mark.parametrize(("argv", "expected"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input(argv, expected, bad_files, refused, empty_folder, tiny_yaml) -> None:
    for file in bad_files.iterdir():
        (empty_folder / file.name).symlink_to(file)
    if "grey.pt" in argv:
        save(yolo.DetectionModel({**tiny_yaml, "ch": 1}, ch=1), argv[0])
    assert expected in refused("bench", *argv)


def test_a_shape_that_cannot_be_told(tmp_path) -> None:
    """The image's values decide how much there is to do."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Cast", ["at"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "rows"], ["y"]),
    ]
    file = read_onnx(write_onnx(tmp_path / "a.onnx", nodes, {"w": (2, 4)}, [1, 3, 8, 8], "y"))
    with pytest.raises(InputError, match="the shape of rows cannot be told"):
        onnx_cost(file, (1, 3, 8, 8))


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
