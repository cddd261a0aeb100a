"""inspect: what it says against the graph and the weights, and its picture."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from yolo_slim import channel_graph, load, save
from yolo_slim.channels.graph import Norm
from yolo_slim.channels.ties import tie_letters
from yolo_slim.cli import run
from yolo_slim.host.checkpoint import save_model
from yolo_slim.host.classes import common, yolo
from yolo_slim.report.graph_layout import BOX_HEIGHT, find_links, lay_out
from yolo_slim.report.graph_plot import plot_graph, text_width
from yolo_slim.report.graph_table import graph_table
from yolo_slim.report.inspection import Inspection, LayerView, NormView, inspection


def as_json(capfd: pytest.CaptureFixture, *argv: object) -> dict:
    capfd.readouterr()
    assert run("inspect", [*map(str, argv), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("residual", ["skip", "inner", "group"])
def test_json_is_the_graph(residual, tiny_checkpoint, empty_folder, capfd):
    found = as_json(capfd, tiny_checkpoint, "--residual", residual)
    model = load(tiny_checkpoint).model
    graph = channel_graph(model, residual)
    assert found["residual"] == residual
    assert found["params"] == sum(p.numel() for p in model.parameters())
    assert found["batchnorms"] == len(graph.norms) == 25
    assert found["channels"] == graph.channels == sum(n["channels"] for n in found["norms"])
    free = sum(n["channels"] for n in found["norms"] if n["prunable"])
    assert found["prunable_channels"] == graph.prunable_channels == free
    weights = {name: m.weight for name, m in model.named_modules() if name in graph.norms}
    for row, norm in zip(found["norms"], graph.norms.values(), strict=True):
        assert (row["name"], row["channels"], row["pinned"]) == (
            norm.name,
            norm.channels,
            norm.pinned,
        )
        assert (tuple(row["readers"]), tuple(row["tied"])) == (norm.readers, norm.tied)
        gamma = np.abs(weights[norm.name].detach().numpy())
        expected = [gamma.min(), *np.percentile(gamma, [25, 50, 75]), gamma.max()]
        assert list(row["gamma"].values()) == pytest.approx(expected, rel=1e-5)
    assert list(empty_folder.iterdir()) == []


def test_json_by_hand(tiny_checkpoint, capfd):
    found = as_json(capfd, tiny_checkpoint)
    norms = {row["name"]: row for row in found["norms"]}
    row = norms["model.4.m.1.cv2.bn"]
    assert (row["layer"], row["channels"], row["tie"]) == (4, 16, "B")
    assert row["tied"] == ["model.4.cv1.bn", "model.4.m.0.cv2.bn"]
    assert row["pinned"] == "added in model.4.m.1"
    assert row["prunable"] is False
    row = norms["model.8.bn"]
    assert row["readers"] == ["model.11.cv1.conv", "model.11.cv2.conv"]
    assert (row["tie"], row["pinned"], row["prunable"]) == (None, None, True)
    assert found["layers"][0] == {"index": 0, "type": "Conv", "number": 1, "reads": [-1]}
    assert found["layers"][10] == {"index": 10, "type": "Concat", "number": 1, "reads": [9, 5]}
    assert found["layers"][12]["reads"] == [4, 11, 7]


def test_a_gamma_that_is_no_number(tiny_model, tmp_path, refused):
    tiny_model.model[0].bn.weight.data[3] = float("nan")
    file = save(tiny_model, tmp_path / "nan.pt")
    for option in ([], ["--json"]):
        assert "NaN in model.0.bn.weight (1 of 8 values)" in refused("inspect", file, *option)


def test_layers_in_a_row(tiny_yaml, capfd, tmp_path):
    tiny_yaml["backbone"][4] = [-1, 6, "Bottleneck", [128]]
    found = as_json(capfd, save(yolo.DetectionModel(tiny_yaml), tmp_path / "two.pt"))
    assert found["layers"][4] == {"index": 4, "type": "Bottleneck", "number": 2, "reads": [3]}
    assert [n["name"] for n in found["norms"] if n["layer"] == 4][-1] == "model.4.1.cv2.bn"


def test_pruned_checkpoint(pruned_tiny, tiny_checkpoint, capfd):
    before = as_json(capfd, tiny_checkpoint, "--residual", "skip")
    after = as_json(capfd, pruned_tiny)
    assert [n["name"] for n in after["norms"]] == [n["name"] for n in before["norms"]]
    cut = before["channels"] - after["channels"]
    assert cut == pytest.approx(0.3 * before["prunable_channels"], abs=0.01 * 448)


def test_words_and_picture(tiny_checkpoint, empty_folder, capfd):
    assert run("inspect", [str(tiny_checkpoint), "--name", "tiny"]) == 0
    text = capfd.readouterr().out
    graph = channel_graph(load(tiny_checkpoint).model, "inner")
    total = f"25 BatchNorms, 552 channels, {graph.prunable_channels} prunable with residual inner"
    assert total in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("  ")}
    for name, norm in graph.norms.items():
        assert rows[name.removeprefix("model.").removesuffix(".bn")][1] == str(norm.channels)
    row = " ".join(text.split("\n  4.m.0.cv2 ")[1].split("\n  4.m.1.cv1 ")[0].split())
    assert "no conv; pinned: added in 4.m.0" in row
    assert "\n12 Detect, reads 4, 11, 7\n" in text
    assert "\n  B  4.cv1, 4.m.0.cv2, 4.m.1.cv2\n" in text
    picture = Path("runs/inspect/tiny/graph.png")
    assert str(picture) in text
    content = picture.read_bytes()
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert content.startswith(b"\x89PNG")
    assert width > 1000
    assert height > 600
    assert len(content) > 20_000
    assert sorted(p.name for p in picture.parent.iterdir()) == ["graph.png"]


@pytest.mark.parametrize(
    ("train", "expected", "why"),
    [
        ({}, "inner", "which yolo-slim slim takes for this model, and prune.py with data"),
        ({"st": True}, "skip", "as this model was trained or cut before"),
        ({"st": True, "residual": "group"}, "group", "as this model was trained or cut before"),
    ],
)
def test_residual_is_that_of_a_cut(train, expected, why, tiny_model, empty_folder, capfd) -> None:
    file = save_model(tiny_model, empty_folder / "t.pt", opt=train)
    assert as_json(capfd, file)["residual"] == expected
    assert run("inspect", [str(file)]) == 0
    text = " ".join(capfd.readouterr().out.split())
    assert f"This holds for --residual {expected}, {why}." in text
    assert run("inspect", [str(file), "--residual", "skip"]) == 0
    assert "This holds for --residual skip, as given." in " ".join(capfd.readouterr().out.split())


def test_folders_are_numbered(tiny_checkpoint, empty_folder):
    for _ in range(2):
        assert run("inspect", [str(tiny_checkpoint)]) == 0
    assert run("inspect", [str(tiny_checkpoint), "--exist-ok"]) == 0
    assert sorted(p.name for p in Path("runs/inspect").iterdir()) == ["exp", "exp2"]


def test_module_without_a_rule_is_listed(tiny_model, tmp_path):
    class Attention(common.Conv):
        pass

    tiny_model.model[5].__class__ = Attention
    tiny_model.model[4].m[1].cv2.__class__ = Attention
    view = inspection(tiny_model, channel_graph(tiny_model))
    names = [{"name": n, "type": "Attention"} for n in ("model.4.m.1.cv2", "model.5")]
    assert view.as_dict()["unknown"] == names
    assert "\n  model.4.m.1.cv2  Attention\n  model.5  Attention" in graph_table(view)
    boxes = [box.label for row in lay_out(view, text_width).rows for box in row.boxes]
    assert "m.1.cv2: Attention, no rule" in boxes
    assert "Attention, no rule" in boxes
    assert plot_graph(view, tmp_path / "graph.png").stat().st_size > 20_000


def test_letters():
    """30 pairs; and a chain, where the ends are not tied to one another."""
    pairs = [(f"a{i}", f"b{i}") for i in range(30)]
    norms = {a: Norm(a, 8, 0, tied=(b,)) for pair in pairs for a, b in (pair, pair[::-1])}
    letters = tie_letters({"free": Norm("free", 8, 0), **norms})
    assert "free" not in letters
    assert [letters[a] for a, _ in pairs][::25] == ["A", "Z"]
    assert letters["b26"] == letters["a26"] == "AA"
    chain = {"x": ("y",), "y": ("x", "z"), "z": ("y",)}
    assert tie_letters({n: Norm(n, 8, 0, tied=t) for n, t in chain.items()}) == dict.fromkeys(
        chain, "A"
    )


def large() -> Inspection:
    """20 layers, some with 16 BNs of up to 1024 channels; the last reads five others."""
    layers = []
    for i in range(20):
        names = [f"model.{i}.m.{k}.cv{j}.bn" for k in range(i % 9) for j in (1, 2)]
        norms = tuple(
            NormView(Norm(name, 2 ** (3 + k % 8), 0), i, (0.1, 0.2, 0.3, 0.4, 0.5), "A" * (k % 3))
            for k, name in enumerate(names)
        )
        reads = (i - 1, i - 6) if i % 4 == 3 and i > 6 else (i - 1,)
        layers.append(LayerView(i, "C3", 1, (2, 5, 8, 12, 18) if i == 19 else reads, norms))
    return Inspection("large.pt", "skip", 80, 1, tuple(layers))


def test_nothing_overlaps():
    view = large()
    place = lay_out(view, text_width, top=1)
    boxes = [box for row in place.rows for box in row.boxes]
    assert [box.norm for box in boxes] == list(view.norms)
    for row in place.rows:
        names = place.names + text_width(row.layer.title, 8.5)
        assert all(box.x > names for box in row.boxes)
        assert all(row.y < b.y and b.y + BOX_HEIGHT < row.y + row.height for b in row.boxes)
        lines = {box.y for box in row.boxes}
        assert all(b - a > BOX_HEIGHT for a, b in pairwise(sorted(lines)))
        for y in lines:
            line = [box for box in row.boxes if box.y == y]
            assert all(a.x + a.width < b.x for a, b in pairwise(line))
            assert line[-1].x + line[-1].width < place.width
    for a, b in pairwise(place.rows):
        assert a.y + a.height == pytest.approx(b.y)
    widths = {}
    for box in boxes:
        widths.setdefault((len(box.norm.tie), box.norm.norm.channels), box.width)
        text = text_width(box.label, 7.5) + text_width(str(box.norm.norm.channels), 7.5)
        assert text < box.width
    assert widths[0, 1024] > widths[0, 128] > widths[0, 8]


def test_bottlenecks_stay_on_one_line():
    for row in lay_out(large(), text_width).rows:
        lines: dict[str, set[float]] = {}
        for box in row.boxes:
            lines.setdefault(box.label.rpartition(".")[0], set()).add(box.y)
        assert all(len(y) == 1 for y in lines.values())


def test_links():
    """Every read of another layer than the one above, and no two in one place."""
    view = large()
    links = find_links(view.layers)
    drawn = {(link.source, reader) for link in links for reader in link.readers}
    far = {(s, v.index) for v in view.layers for s in v.reads if 0 <= s != v.index - 1}
    assert drawn == far
    assert len(far) == 7
    for a in links:
        for b in links:
            if a is not b and a.lane == b.lane:
                assert a.readers[-1] < b.source or b.readers[-1] < a.source


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_bad_input(json_option, refused, tiny_checkpoint, tmp_path):
    assert "none.pt: no such file" in refused("inspect", "none.pt", *json_option)
    assert "a folder" in refused("inspect", tmp_path, *json_option)
    line = refused("inspect", tiny_checkpoint, "--residual", "all", *json_option)
    assert "invalid choice: 'all'" in line
    assert "required: weights" in refused("inspect", *json_option)
    Path("bare.pt").write_bytes(b"not a checkpoint")
    assert "not a checkpoint" in refused("inspect", "bare.pt", *json_option)


@pytest.mark.parametrize("project", ["file/x", "/proc/x", "file"])
def test_folder_that_cannot_be_written(project, refused, tiny_checkpoint):
    Path("file").write_text("in the way")
    assert "cannot be written" in refused("inspect", tiny_checkpoint, "--project", project)


def test_picture_that_cannot_be_written_leaves_nothing(refused, tiny_checkpoint, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in refused("inspect", tiny_checkpoint)


def test_dollar_in_the_file_name(tiny_model, tmp_path):
    """matplotlib would take it for a formula."""
    view = inspection(tiny_model, channel_graph(tiny_model), "a$b_{$.pt")
    assert plot_graph(view, tmp_path / "graph.png").is_file()


def test_reader_that_stops_early(tiny_checkpoint: Path, empty_folder: Path) -> None:
    """As `| head` does."""
    code = "from yolo_slim.cli import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(tiny_checkpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read().decode()
