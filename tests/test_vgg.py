"""Models that are no YOLOv5 take the same road: the VGG example on digits, a plain Sequential."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _common import randomise_norms_
from conftest import leftovers
from torch import nn
from torch.nn import functional as F

from yolo_slim import InputError, SparsityPenalty, channel_graph, prune
from yolo_slim.calibration import Calibration
from yolo_slim.channels import rules
from yolo_slim.cli import guarded
from yolo_slim.errors import CheckFailed
from yolo_slim.host.image import smallest_image
from yolo_slim.pruning.criteria.table import CRITERIA
from yolo_slim.pruning.masks import apply_masks_
from yolo_slim.pruning.rebuild.parity import check_parity
from yolo_slim.pruning.rebuild.rebuild import rebuild

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "vgg_cifar10"
NAMES = ("vgg", "dataset", "training", "main")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """The example's modules; afterwards they are gone again, with the rule."""
    known = dict(rules.RULES)
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield SimpleNamespace(**{name: import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in NAMES:
            sys.modules.pop(name, None)
        rules.RULES.clear()
        rules.RULES.update(known)


@pytest.fixture(scope="module")
def digits(example) -> SimpleNamespace:
    return example.dataset.load_data("digits", Path())


@pytest.fixture
def vgg11(example) -> nn.Module:
    """An eighth of the width of VGG-11, random gammas, statistics and class biases."""
    model = example.vgg.VGG(example.vgg.scaled(example.vgg.CFGS[11], 0.125))
    randomise_norms_(model)
    nn.init.normal_(model.classifier.bias)
    return model.eval()


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def silenced(model: nn.Module, masks: dict[str, torch.Tensor]) -> nn.Module:
    return apply_masks_(deepcopy(model), masks).double()


@pytest.mark.parametrize(("depth", "convs"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_sizes(example, depth: int, convs: int) -> None:
    """Sizes by hand; that of VGG-19 is the published one, 20.04 M."""
    cfg = example.vgg.CFGS[depth]
    counts = [c for c in cfg if c != "M"]
    assert (len(counts), len(cfg) - len(counts)) == (convs, 4)
    with torch.device("meta"):
        model = example.vgg.VGG(cfg)
    params = sum(p.numel() for p in model.parameters())
    pairs = zip([3, *counts], counts, strict=False)
    assert params == sum(9 * a * b + 2 * b for a, b in pairs) + 512 * 10 + 10
    assert depth != 19 or round(params / 1e6, 2) == 20.04
    assert model.cfg == cfg


def test_graph(example, vgg11) -> None:
    graph = channel_graph(vgg11)
    norms = [n for n, m in vgg11.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert [n.name for n in graph.prunable] == norms
    readers = [n.readers for n in graph.norms.values()]
    convs = [n for n, m in vgg11.named_modules() if isinstance(m, nn.Conv2d)]
    assert readers == [(name,) for name in [*convs[1:], "classifier"]]
    assert SparsityPenalty(vgg11).names == norms
    inside = example.vgg.VGG(vgg11.cfg)
    outer = nn.Sequential(inside)
    outer.image = (3, 32, 32)
    assert list(channel_graph(outer).norms) == [f"0.{name}" for name in norms]


@pytest.mark.parametrize("percent", [0.0, 0.3, 0.7, 0.9])
def test_cut(digits, vgg11, percent: float) -> None:
    """The share asked for, and masked == rebuilt on real digits, with no help of check_parity."""
    before, images = state_of(vgg11), digits.test.images[:16].double() / 255
    random = torch.get_rng_state()
    pruned = prune(vgg11, percent, recover=(), round_to=1)
    assert torch.equal(torch.get_rng_state(), random)
    assert same(before, vgg11.state_dict())
    total = sum(len(mask) for mask in pruned.masks.values())
    cut = sum(int((~mask).sum()) for mask in pruned.masks.values())
    assert cut == round(percent * total) == round(pruned.report.achieved * total)
    assert type(pruned.model) is type(vgg11)
    assert pruned.model.cfg == [
        c if c == "M" else int(mask.sum()) for c, mask in _beside(vgg11.cfg, pruned.masks)
    ]
    expected = silenced(vgg11, pruned.masks)(images)
    found = deepcopy(pruned.model).double()(images)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    params = sum(p.numel() for p in pruned.model.parameters())
    assert pruned.report.after.params == params
    assert percent or same(before, pruned.model.state_dict())


def _beside(cfg: list, masks: dict) -> Iterator[tuple]:
    masks = iter(masks.values())
    return ((c, None if c == "M" else next(masks)) for c in cfg)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion(example, digits, vgg11, criterion: str) -> None:
    """Half of the MACs, with a loss of classes in place of boxes."""
    batch = next(example.dataset.batches(digits, digits.train, 16))
    calibration = Calibration((batch,), lambda model, b: F.cross_entropy(model(b[0]), b[1]))
    pruned = prune(vgg11, macs=0.5, criterion=criterion, calibration=calibration, round_to=1)
    assert pruned.parity.holds
    assert pruned.report.after.macs / pruned.report.before.macs == pytest.approx(0.5, abs=0.01)


def test_keep_all_shares_nothing(vgg11) -> None:
    graph = channel_graph(vgg11)
    copy = rebuild(vgg11, graph, {})
    assert same(vgg11.state_dict(), copy.state_dict())
    theirs = {p.data_ptr() for p in vgg11.parameters()}
    assert not theirs & {p.data_ptr() for p in copy.parameters()}
    assert check_parity(vgg11, copy, graph, {}).error == 0


def test_parity_sees_each_layer(vgg11) -> None:
    """Channels in a wrong order, one parameter at a time."""
    graph = channel_graph(vgg11)
    pruned = prune(vgg11, 0.5, round_to=1)
    assert pruned.parity.holds
    for name, parameter in pruned.model.named_parameters():
        wrong = deepcopy(pruned.model)
        with torch.no_grad():
            wrong.get_parameter(name).copy_(parameter.roll(1, 0))
        assert not check_parity(vgg11, wrong, graph, pruned.masks).holds, name


def test_cut_again(vgg11) -> None:
    first = prune(vgg11, 0.4, round_to=1)
    second = prune(first.model, 0.4, round_to=1)
    total = sum(len(m) for m in first.masks.values())
    left = sum(c for c in second.model.cfg if c != "M")
    assert left == total - round(0.4 * total) - round(0.4 * (total - round(0.4 * total)))


def test_penalty_takes_gammas_down(example, digits, vgg11) -> None:
    """Same start, same batches: with the L1 gammas are small, betas are not pulled at."""
    few = example.dataset.Split(digits.train.images[:128], digits.train.labels[:128])
    data = example.dataset.Data(few, few, digits.mean, digits.std, digits.mirror)
    options = {"epochs": 4, "lr": 0.02, "batch_size": 32, "seed": 0}
    gammas = {}
    for sr in (0.0, 0.2):
        model = example.vgg.VGG(vgg11.cfg)
        model.load_state_dict(vgg11.state_dict())
        example.training.train_(model, data, sr=sr, **options)
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        gammas[sr] = torch.cat([m.weight.detach().abs() for m in norms])
    moved = 0.2 * 0.02 * sum((1 - 0.9**k) / 0.1 for k in range(1, 9))  # the first two epochs
    assert gammas[0.0].median() - gammas[0.2].median() > 0.5 * moved
    with pytest.raises(CheckFailed, match=r"epoch 1: the loss is nan"):
        example.training.train_(model, data, **{**options, "lr": 1e30})


def test_road(example, digits, tmp_path, capsys) -> None:
    """All steps as a user runs them, at a quarter of the width."""
    run, out = example.main.main, ["--out", str(tmp_path)]
    short = ["--epochs", "3", "--threads", "1", *out]
    small = ["--dataset", "digits", "--depth", "11", "--width", "0.25"]
    for argv in (
        ["sparse", *small, "--sr", "0.005", *short],
        ["prune", "--percent", "0.7", *out],
        ["finetune", *short, "--epochs", "8"],
    ):
        run(argv)
    load = example.vgg.load
    models = {f: load(tmp_path / f) for f in ("sparse.pt", "pruned.pt", "slim.pt")}
    accuracy = {f: record["accuracy"] for f, (_, record) in models.items()}
    for file, (model, record) in models.items():
        assert example.training.accuracy(model, digits) == accuracy[file]
        assert record["params"] == sum(p.numel() for p in model.parameters())
    assert accuracy["slim.pt"] > 0.85 > accuracy["pruned.pt"]
    left, total = (sum(c for c in models[f][0].cfg if c != "M") for f in ("slim.pt", "sparse.pt"))
    assert left == total - round(0.7 * total)
    assert models["slim.pt"][0].cfg == models["pruned.pt"][0].cfg
    capsys.readouterr()
    run(["report", *out])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: row[1] for row in rows if row and row[0] in ("sparse", "prune", "finetune")}
    assert list(shown.values()) == [f"{value:.2%}" for value in accuracy.values()]
    again = example.vgg.save(models["slim.pt"][0], tmp_path / "again.pt", {})
    assert same(load(again)[0].state_dict(), models["slim.pt"][0].state_dict())


class Opened:
    """Something that a safe loader must not run."""

    def __reduce__(self):
        return print, ("run",)


BAD = {
    "a share of one": (["prune", "--percent", "1"], "percent: 1.0, expected a share in [0, 1)"),
    "no step before": (["prune"], "sparse.pt: no such file, expected a checkpoint of the step"),
    "no CIFAR": (["dense", "--data", "nowhere"], "--data nowhere: Dataset not found or corrupted"),
    "no epochs": (["dense", "--epochs", "0"], "--epochs: 0, expected 1 or more"),
    "no step size": (["sparse", "--lr", "nan"], "--lr: nan, expected a number above 0"),
    "a batch of one": (["dense", "--batch-size", "1"], "--batch-size: 1, expected 2 or more"),
    "negative sr": (["sparse", "--dataset", "digits", "--width", "0.1", "--sr", "-1"], "sr: -1.0"),
    "no such depth": (["dense", "--depth", "12"], "invalid choice: 12"),
    "no step": ([], "the following arguments are required: step"),
    "nothing to report": (["report"], "no results in it, expected a folder that the other steps"),
    "garbage": (["finetune", "--weights", "garbage.pt"], "not a checkpoint of this example"),
    "code": (["finetune", "--weights", "code.pt"], "not a checkpoint of this example"),
    "another model": (["prune", "--weights", "other.pt"], "not a checkpoint of this example"),
    "a file": (["dense", "--out", "garbage.pt"], "garbage.pt: cannot be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(example, empty_folder, capfd, case: str) -> None:
    argv, text = BAD[case]
    Path("garbage.pt").write_bytes(b"garbage")
    Path("code.pt").write_bytes(pickle.dumps(Opened()))
    torch.save({"cfg": [8], "state_dict": {}, "record": {}}, "other.pt")
    before = leftovers(empty_folder)
    capfd.readouterr()
    try:
        code = guarded(lambda: example.main.main(argv))
    except SystemExit as error:  # argparse
        code = error.code
    out, err = capfd.readouterr()
    assert (code, len(err.splitlines()), out) == (2, 1, ""), err
    assert text in err
    assert leftovers(empty_folder) == before


def test_readme(example) -> None:
    """Its commands parse, and its rule is that of vgg.py but for a line break."""
    text = (EXAMPLE / "README.md").read_text()
    lines = [line.split("#")[0] for line in text.splitlines() if line.startswith("    python")]
    commands = [part.split()[2:] for line in lines for part in line.split(";")]
    assert [argv[0] for argv in commands] == [*example.main.STEPS] * 2
    for argv in commands:
        example.main.parse(argv)
    code = text.partition("```python")[2].partition("```")[0]
    graph = channel_graph(example.vgg.VGG(example.vgg.CFGS[11]))
    exec(code.partition("@rule")[1] + code.partition("@rule")[2], vars(example.vgg))
    assert str(channel_graph(example.vgg.VGG(example.vgg.CFGS[11]))) == str(graph)


def test_help_is_light() -> None:
    code = "import main, sys\ntry: main.parse(['dense', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE, check=True, capture_output=True)


def test_digits(digits) -> None:
    train, test = digits.train, digits.test
    assert train.images.shape == (898, 3, 32, 32)
    assert test.images.shape == (899, 3, 32, 32)
    share = test.labels.bincount() / (train.labels.bincount() + test.labels.bincount())
    assert share.sub(0.5).abs().max() < 0.01
    found = {image.numpy().tobytes() for image in test.images}
    assert not found & {image.numpy().tobytes() for image in train.images}
    from sklearn.datasets import load_digits

    small = F.avg_pool2d(test.images[:, 0].float(), 4) / 255 * 16
    original = torch.from_numpy(load_digits().images).float()
    nearest = torch.cdist(small.flatten(1), original.flatten(1)).argmin(1)
    assert load_digits().target[nearest.numpy()].tolist() == test.labels.tolist()


@pytest.mark.parametrize(("size", "sizes"), [(899, {899}), (300, {299, 300}), (64, {59, 60})])
def test_batches(example, digits, size: int, sizes: set[int]) -> None:
    """Every image once, in batches of about one size."""
    found = list(example.dataset.batches(digits, digits.test, size))
    assert {len(labels) for _, labels in found} == sizes
    assert torch.equal(torch.cat([labels for _, labels in found]), digits.test.labels)
    drawn = example.dataset.batches(digits, digits.test, size, torch.Generator().manual_seed(0))
    labels = torch.cat([labels for _, labels in drawn])
    assert not torch.equal(labels, digits.test.labels)
    assert torch.equal(labels.bincount(), digits.test.labels.bincount())


@pytest.mark.parametrize("mirror", [False, True])
def test_augment(example, mirror: bool) -> None:
    """The same draws, one image after another."""
    images = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8)
    found = example.dataset.augment(images, torch.Generator().manual_seed(3), mirror)
    generator = torch.Generator().manual_seed(3)
    top, left = torch.randint(9, (2, 9), generator=generator).tolist()
    flips = (torch.rand(9, generator=generator) < 0.5).tolist() if mirror else [False] * 9
    assert len(set(top)) > 2 and len(set(flips)) == 1 + mirror
    for image, y, x, flip, got in zip(images, top, left, flips, found, strict=True):
        padded = torch.zeros(3, 40, 40, dtype=torch.uint8)
        padded[:, 4:36, 4:36] = image
        expected = padded[:, y : y + 32, x : x + 32]
        assert torch.equal(got, expected.flip(2) if flip else expected)


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """Sixty images in the files of CIFAR-10, whose checksums torchvision then takes for right."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    drawn = np.random.default_rng(0)

    def write(name: str, data: dict) -> list[str]:
        content = pickle.dumps(data, protocol=2)
        (folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]

    def batch(name: str) -> list[str]:
        pixels = drawn.integers(256, size=(10, 3072), dtype=np.uint8)
        return write(name, {"data": pixels, "labels": drawn.integers(10, size=10).tolist()})

    names = [name for name, _ in CIFAR10.train_list]
    monkeypatch.setattr(CIFAR10, "train_list", [batch(name) for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    meta = write("batches.meta", {"label_names": [str(i) for i in range(10)]})
    about = {"filename": meta[0], "key": "label_names", "md5": meta[1]}
    monkeypatch.setattr(CIFAR10, "meta", about)
    return tmp_path


def test_cifar(example, cifar) -> None:
    data = example.dataset.load_data("cifar10", cifar)
    assert data.mirror
    assert (len(data.train.labels), len(data.test.labels)) == (50, 10)
    with (cifar / "cifar-10-batches-py" / "data_batch_2").open("rb") as file:
        second = pickle.load(file)
    planes = torch.from_numpy(second["data"]).view(10, 3, 32, 32)  # red, green, blue, row by row
    assert torch.equal(data.train.images[10:20], planes)
    assert data.train.labels[10:20].tolist() == second["labels"]
    images, labels = next(example.dataset.batches(data, data.test, 10))
    red = images[:, 0] * data.std[0] + data.mean[0]
    torch.testing.assert_close(red, data.test.images[:, 0] / 255)
    assert torch.equal(labels, data.test.labels)
    (cifar / "cifar-10-batches-py" / "test_batch").write_bytes(b"half")
    with pytest.raises(InputError, match="--data .*corrupted.*--download"):
        example.dataset.load_data("cifar10", cifar)


def stack(c1: int, c2: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(c1, c2, 3, padding=1, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c2), nn.ReLU(inplace=True)]


@pytest.fixture
def plain() -> nn.Sequential:
    """No class of its own: a depthwise conv, one stack in another, maps of 2 x 3 flattened."""
    model = nn.Sequential(
        *(*stack(1, 12), nn.MaxPool2d(2), *stack(12, 16), *stack(16, 16, groups=16)),
        *(nn.Sequential(*stack(16, 10)), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5)),
        *(nn.Linear(60, 7), nn.ReLU(), nn.Linear(7, 3)),
    )
    model.image = (1, 8, 12)
    randomise_norms_(model)
    return model.eval()


def test_plain_sequential(plain) -> None:
    graph = channel_graph(plain)
    assert graph.norms["5"].tied == ("8",)
    assert graph.norms["10.1"].readers == ("14",)
    ids = graph.norms["10.1"].ids
    assert graph.convs["14"].inputs.tolist() == [i for i in ids for _ in range(6)]
    pruned = prune(plain, 0.5, recover=(), round_to=1)
    kept = {name: int(mask.sum()) for name, mask in pruned.masks.items()}
    assert abs(sum(kept.values()) - 27) <= 1  # a tied pair counts as two
    assert kept["5"] == kept["8"] == pruned.model[7].groups
    assert pruned.model[14].in_features == 6 * kept["10.1"] < 60
    assert pruned.model[16] is not plain[16]
    assert same(pruned.model[16].state_dict(), plain[16].state_dict())
    images = torch.randn(5, 1, 8, 12, dtype=torch.float64)
    expected = silenced(plain, pruned.masks)(images)
    torch.testing.assert_close(deepcopy(pruned.model).double()(images), expected, rtol=0, atol=1e-9)


def test_what_is_cut_stays_as_it_was(plain) -> None:
    """Type, frozen parameters, modes; what keeps its size keeps all else too."""
    plain.half()
    plain[4].requires_grad_(False)
    plain[5].train()
    pruned = prune(plain, 0.5, round_to=1).model
    assert {p.dtype for p in pruned.parameters()} == {torch.float16}
    frozen = [name for name, p in pruned.named_parameters() if not p.requires_grad]
    assert frozen == ["4.weight"]
    assert [name for name, m in pruned.named_modules() if m.training] == ["5"]
    assert plain.image == pruned.image


class NoRule(nn.Module):
    image = (3, 8, 8)


def test_refused(plain) -> None:
    with pytest.raises(InputError, match="NoRule: no YOLOv5 detector, and no rule"):
        channel_graph(NoRule())
    plain.image = (1, 8, 8)
    with pytest.raises(InputError, match=r"Sequential.image: \(1, 8, 8\), on which it fails"):
        channel_graph(plain)
    plain.image = (2, 8, 12)
    with pytest.raises(InputError, match="Sequential: 0: 2 channels reach it, it has 1"):
        channel_graph(plain)
    for image in ((8, 12), (1, 8, 0), (1, 8, 12.0), 8, (True, 8, 12)):
        plain.image = image
        with pytest.raises(InputError, match=r"Sequential.image: .*, expected an attribute image"):
            smallest_image(plain)
    del plain.image
    with pytest.raises(InputError, match="Sequential: no YOLOv5 detector, and no image"):
        prune(plain, 0.5)


def test_image_of_a_detector(tiny_model) -> None:
    assert smallest_image(tiny_model) == (3, 32, 32)
    tiny_model.yaml["ch"] = 4
    tiny_model.stride = torch.tensor([8.0, 64.0])
    assert smallest_image(tiny_model) == (4, 64, 64)


def test_flatten_of_other_dims_keeps_what_feeds_it() -> None:
    model = nn.Sequential(*stack(3, 8), nn.Flatten(2))
    model.image = (3, 4, 4)
    found = channel_graph(model)
    assert found.norms["1"].pinned == "read by 3, Flatten, which has no rule"
