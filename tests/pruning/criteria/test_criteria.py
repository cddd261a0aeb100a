"""Criteria: golden cases by hand, slow references, what a criterion may not do, bad ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_rebuild import fingerprint
from torch import nn

from yolo_slim import Calibration, InputError, admit, calibrate, channel_graph, criterion
from yolo_slim.channels.graph import FREE, ChannelGraph, Tracer
from yolo_slim.channels.rules import walk
from yolo_slim.host.classes import common
from yolo_slim.host.data import read_data
from yolo_slim.pruning.criteria.score import function_of, score
from yolo_slim.pruning.criteria.table import CRITERIA, find

OURS = list(CRITERIA)  # nothing else is registered yet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """A criterion that a test registers holds for that test."""
    before = set(CRITERIA)
    yield
    for name in set(CRITERIA) - before:
        del CRITERIA[name]


@pytest.fixture(scope="module")
def calibration(_tiny: nn.Module, shapes_yaml: Path) -> Calibration:
    return calibrate(read_data(shapes_yaml), _tiny, imgsz=64, images=6, batch_size=4)


def over_mean(values: torch.Tensor) -> torch.Tensor:
    return (values / values.mean()).double()


class Vgg(nn.Module):
    """Two convs, a flatten of 2 x 2 positions, a Linear: no YOLOv5."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))

    def graph(self) -> ChannelGraph:
        tracer = Tracer()
        x = walk(self.features, "features", np.full(1, FREE), tracer)
        tracer.conv("classifier", self.classifier, np.repeat(x, 4))
        return tracer.finish()


# Golden cases


def test_filters_by_hand() -> None:
    model = Vgg()
    first, second = model.features[0].weight.data, model.features[4].weight.data
    first[0], first[1] = 2.0, torch.tensor([1.0, -1, 0, 3, 0, 0, 0, 0, 4]).view(1, 3, 3)
    second.copy_(torch.tensor([[3.0, -4], [0, 2], [-6, 1]]).view(3, 2, 1, 1))
    model.classifier.weight.data.zero_()
    model.classifier.weight.data[1, 4:8] = torch.tensor([1.0, -1, 1, 1])  # channel 1 of the second
    model.classifier.weight.data[3, 11] = 2.0  # channel 2, its last position
    model.features[1].weight.data = torch.tensor([-0.5, 2.0])
    graph = model.graph()
    assert list(score(model, graph)) == ["features.1", "features.5"]
    assert score(model, graph, "bn")["features.1"].tolist() == [0.5, 2.0]
    wanted = {
        "l1": ([18, 9], [7, 2, 7]),
        "l2": ([6, 27**0.5], [5, 2, 37**0.5]),
        "next-l2": ([45**0.5, 21**0.5], [0, 2, 2]),
    }
    for name, (one, two) in wanted.items():
        found = score(model, graph, name)
        torch.testing.assert_close(found["features.1"], over_mean(torch.tensor(one).double()))
        torch.testing.assert_close(found["features.5"], over_mean(torch.tensor(two).double()))


def test_what_reads_a_channel_of_a_detector(tiny_model: nn.Module) -> None:
    """Through a C3's Concat, an SPPF (four times), a Concat of layers, and by several convs."""
    found = score(tiny_model, channel_graph(tiny_model, "group"), "next-l2")
    weight = {n: m.weight for n, m in tiny_model.named_modules() if isinstance(m, nn.Conv2d)}

    def columns(*parts: torch.Tensor) -> torch.Tensor:
        """Parts (C_out, C, k, k) -> (C,) norms of their columns together."""
        loop = [
            sum(float(part[:, c].double().square().sum()) for part in parts) ** 0.5
            for c in range(parts[0].shape[1])
        ]
        return over_mean(torch.tensor(loop).double())

    def close(name: str, *parts: torch.Tensor) -> None:
        torch.testing.assert_close(found[name], columns(*parts))

    close("model.0.bn", weight["model.1.conv"])
    close("model.2.cv2.bn", weight["model.2.cv3.conv"][:, 8:])
    close("model.1.bn", weight["model.2.cv1.conv"], weight["model.2.cv2.conv"])
    close("model.7.cv1.bn", *weight["model.7.cv2.conv"].split(32, 1))
    heads = [weight[f"model.11.{cv}.conv"][:, 32:] for cv in ("cv1", "cv2")]
    close("model.5.bn", weight["model.6.conv"], *heads)
    # Tied by the adds of a C3: the sum is read, by the next Bottleneck and by cv3
    through = [weight["model.4.m.0.cv1.conv"], weight["model.4.m.1.cv1.conv"]]
    close("model.4.cv1.bn", *through, weight["model.4.cv3.conv"][:, :16])
    assert torch.equal(found["model.4.m.1.cv2.bn"], found["model.4.cv1.bn"])


def test_filters_of_other_convs() -> None:
    """Depthwise, transposed and grouped convs, and a BN that no conv writes."""
    layers = nn.Sequential(
        nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4),
        nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 1), nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 1, groups=2), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1), nn.BatchNorm2d(2),
    )  # fmt: skip
    tracer, x = Tracer(), np.full(3, FREE)
    for conv, norm in ((0, 1), (2, 3), (5, 6), (7, 8), (9, 10)):
        if conv == 5:
            x = walk(layers[4], "m.4", x, tracer)
        x = tracer.conv(f"m.{conv}", layers[conv], x, tracer.norm(f"m.{norm}", layers[norm]))
    graph = tracer.finish()
    assert [n.name for n in graph.prunable] == ["m.1", "m.3", "m.4", "m.10"]
    holder = nn.Module()
    holder.m = layers
    up, deep, wide, last = (layers[i].weight.detach().double() for i in (0, 2, 5, 9))
    own, follow = score(holder, graph, "l1"), score(holder, graph, "next-l2")
    torch.testing.assert_close(own["m.1"], over_mean(up.abs().sum((0, 2, 3))))
    torch.testing.assert_close(own["m.3"], over_mean(deep.abs().sum((1, 2, 3))))
    torch.testing.assert_close(own["m.10"], over_mean(last.abs().sum((1, 2, 3))))
    both = (up.abs().sum((0, 2, 3)) + deep.abs().sum((1, 2, 3))) / 2  # what it is tied to
    torch.testing.assert_close(own["m.4"], over_mean(both))
    torch.testing.assert_close(follow["m.1"], over_mean(deep.square().sum((1, 2, 3)).sqrt()))
    torch.testing.assert_close(follow["m.4"], over_mean(wide.square().sum((1, 2, 3)).sqrt()))
    assert follow["m.10"].tolist() == [0, 0]  # nothing reads it


def test_first_and_random(tiny_model: nn.Module) -> None:
    graph = channel_graph(tiny_model)
    torch.testing.assert_close(
        score(tiny_model, graph, "first")["model.0.bn"], torch.linspace(1, 1 / 8, 8).double()
    )
    state = torch.get_rng_state()
    one, two = (score(tiny_model, graph, "random", seed=seed) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    again = score(tiny_model, graph, "random", seed=1)
    assert all(torch.equal(one[n], again[n]) for n in one)
    drawn = torch.cat(list(one.values()))
    assert len(drawn.unique()) > 0.99 * len(drawn)
    assert abs(float(drawn.mean()) - 0.5) < 0.05
    assert not torch.equal(drawn, torch.cat(list(two.values())))


# Taylor


def test_taylor_by_hand() -> None:
    """L sums k * (gamma z + beta) up: gamma dL/dgamma + beta dL/dbeta is its share."""
    model = Vgg().eval()
    norm = model.features[5]
    norm.weight.data, norm.bias.data = torch.tensor([1.0, 2, -1]), torch.tensor([0.5, 0, 1])
    k = torch.tensor([1.0, 3, 2]).view(1, 3, 1, 1)
    seen: list[torch.Tensor] = []

    def loss(model: nn.Module, batch: tuple) -> torch.Tensor:
        out = model.features[:6](batch[0])
        seen.append(out.detach())
        return (out * k).sum()

    batches = tuple((torch.rand(2, 1, 4, 4), None) for _ in range(3))
    found = score(model, model.graph(), "taylor", Calibration(batches, loss))
    wanted = sum((out * k).sum((0, 2, 3)).double() ** 2 for out in seen)
    torch.testing.assert_close(found["features.5"], wanted, rtol=1e-4, atol=0)


def test_taylor_is_the_slope_of_a_gate(tiny_model: nn.Module) -> None:
    """Reference: central differences in float64, gamma and beta of a channel times 1 +- step."""
    model = tiny_model.double()
    model.model[-1].training = True
    graph, image = channel_graph(model, "inner"), torch.rand(2, 3, 64, 64).double()

    def loss(model: nn.Module, batch: tuple) -> torch.Tensor:
        return sum(nn.functional.softplus(part).mean() for part in model(batch[0]))

    calibration = Calibration(((image[:1], None), (image[1:], None)), loss)
    found = function_of(find("taylor"))(deepcopy(model), graph, calibration)
    modules, step = dict(model.named_modules()), 1e-4
    for norm in graph.prunable[::4]:
        channel, bn = norm.channels // 2, modules[norm.name]
        wanted, old = 0.0, (bn.weight.data.clone(), bn.bias.data.clone())
        for batch in calibration.batches:
            values = []
            for factor in (1 + step, 1 - step):
                bn.weight.data[channel] = old[0][channel] * factor
                bn.bias.data[channel] = old[1][channel] * factor
                with torch.no_grad():
                    values.append(float(loss(model, batch)))
            wanted += ((values[0] - values[1]) / (2 * step)) ** 2
            bn.weight.data, bn.bias.data = old[0].clone(), old[1].clone()
        assert float(found[norm.name][channel]) == pytest.approx(wanted, rel=1e-5, abs=1e-18)


def test_taylor_with_the_loss_of_the_host(tiny_model, calibration) -> None:
    """Reference: backward() on the whole model, batch by batch."""
    graph = channel_graph(tiny_model)
    found = score(tiny_model, graph, "taylor", calibration)
    modules = dict(tiny_model.named_modules())
    total = {n.name: torch.zeros(n.channels).double() for n in graph.prunable}
    for batch in calibration.batches:
        tiny_model.zero_grad()
        calibration.loss(tiny_model, batch).backward()
        for name, sums in total.items():
            bn = modules[name]
            sums += (bn.weight * bn.weight.grad + bn.bias * bn.bias.grad).detach().double() ** 2
    for name, sums in total.items():
        torch.testing.assert_close(found[name], sums, rtol=1e-3, atol=1e-7 * float(sums.max()))


def test_taylor_of_what_does_nothing(tiny_model, calibration) -> None:
    """A channel that is silent already, or that the loss does not depend on, costs nothing."""
    bn = tiny_model.model[1].bn
    bn.weight.data[3] = bn.bias.data[3] = 0
    tiny_model.model[2].cv3.conv.weight.data[:, 8:] = 0  # what reads cv2
    found = score(tiny_model, channel_graph(tiny_model), "taylor", calibration)
    assert found["model.1.bn"][3] == 0
    assert (found["model.1.bn"] > 0).sum() == 15
    assert found["model.2.cv2.bn"].tolist() == [0] * 8
    one_map = Calibration(calibration.batches[:1], lambda m, b: m(b[0])[1][2].sum())
    found = score(tiny_model, channel_graph(tiny_model), "taylor", one_map)
    assert found["model.11.cv3.bn"].tolist() == [0] * 32  # of another map


# What holds for all


def state(model: nn.Module) -> tuple:
    parameters = list(model.parameters())
    return fingerprint(model), [p.requires_grad for p in parameters], [p.grad for p in parameters]


@pytest.mark.parametrize("name", OURS)
def test_model_is_left_untouched(name, tiny_model, calibration) -> None:
    tiny_model.train()
    tiny_model.model[3].eval()
    parameters = list(tiny_model.parameters())
    parameters[0].requires_grad_(False)
    parameters[5].grad = torch.ones_like(parameters[5])
    graph, before, random = channel_graph(tiny_model), state(tiny_model), torch.get_rng_state()
    with torch.no_grad():
        found = score(tiny_model, graph, name, calibration)
    after = state(tiny_model)
    assert after[:2] == before[:2]
    assert all(a is b for a, b in zip(after[2], before[2], strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert list(found) == [n.name for n in graph.prunable]
    assert all(found[n.name].shape == (n.channels,) for n in graph.prunable)
    assert all(v.dtype == torch.float64 and not v.requires_grad for v in found.values())


def test_model_is_left_untouched_by_one_that_fails(tiny_model, calibration) -> None:
    @criterion("rude", data=True)
    def rude(model, graph, calibration):
        model.train()
        calibration.loss(model, calibration.batches[0]).backward()  # moves the BN statistics
        model.model[0].bn.weight.data.zero_()
        torch.rand(3)
        raise KeyError("half way")

    before, random = state(tiny_model), torch.get_rng_state()
    with pytest.raises(InputError, match=r"criterion rude: KeyError \('half way'\), expected"):
        score(tiny_model, channel_graph(tiny_model), "rude", calibration)
    assert state(tiny_model) == before
    assert torch.equal(torch.get_rng_state(), random)


def test_own_errors_are_not_dressed_up(tiny_model, calibration) -> None:
    broken = Calibration(calibration.batches, lambda model, batch: batch[5])
    with pytest.raises(IndexError):
        score(tiny_model, channel_graph(tiny_model), "taylor", broken)


def test_layers_without_any_signal_score_zero(tiny_model: nn.Module) -> None:
    tiny_model.model[1].conv.weight.data.zero_()
    found = score(tiny_model, channel_graph(tiny_model), "l2")
    assert found["model.1.bn"].tolist() == [0] * 16
    assert float(found["model.0.bn"].mean()) == pytest.approx(1)


def test_nothing_prunable(tiny_model: nn.Module, calibration) -> None:
    for module in tiny_model.modules():
        if isinstance(module, common.Conv):
            module.act = nn.Sequential(nn.CELU(), nn.Softmax(1))
    graph = channel_graph(tiny_model)
    assert not graph.prunable
    assert [score(tiny_model, graph, name, calibration) for name in OURS] == [{}] * len(OURS)


# A criterion of one's own

OWN = """
import torch
from yolo_slim import criterion

@criterion("mine", scale="l2", residual="inner")
def mine(model, graph, calibration):
    assert not model.training
    return {n.name: torch.rand(n.channels) + n.offset for n in graph.prunable}
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "my_criteria.py"
    file.write_text(OWN)
    yield file
    sys.modules.pop("my_criteria", None)


def test_criterion_of_a_module_file(own: Path, tiny_model: nn.Module) -> None:
    assert admit(own) == []
    tiny_model.train()
    assert (find("mine").scale, find("mine").residual, find("mine").data) == ("l2", "inner", False)
    graph = channel_graph(tiny_model)
    found = score(tiny_model, graph, "mine", seed=7)
    torch.manual_seed(7)
    for norm in graph.prunable:
        raw = torch.rand(norm.channels) + norm.offset
        torch.testing.assert_close(found[norm.name], (raw / raw.norm()).double())


WRONG = {
    "no mapping": (lambda scores: None, r"0\.bn: NoneType, expected \(8,\) finite scores"),
    "no tensor": (
        lambda scores: scores | {"model.1.bn": [1.0] * 16},
        r"1\.bn: list, expected \(16,\)",
    ),
    "a BN missing": (lambda s: {n: v for n, v in s.items() if n != "model.3.bn"}, "3.bn: NoneType"),
    "a shape": (
        lambda s: s | {"model.3.bn": torch.ones(32, 1)},
        r"3\.bn: \(32, 1\), expected \(32",
    ),
    "nan": (lambda s: s | {"model.1.bn": s["model.1.bn"] * float("nan")}, "1.bn: nan among them"),
    "inf": (lambda s: s | {"model.1.bn": 1 / torch.arange(16)}, "1.bn: inf among them"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_scores_that_cannot_be(kind: str, tiny_model: nn.Module) -> None:
    change, message = WRONG[kind]

    @criterion("wrong")
    def wrong(model, graph, calibration):
        return change({n.name: torch.ones(n.channels) for n in graph.prunable})

    with pytest.raises(InputError, match=f"criterion wrong, model.*{message}"):
        score(tiny_model, channel_graph(tiny_model), "wrong")


def test_gammas_that_are_not_numbers(tiny_model: nn.Module) -> None:
    tiny_model.model[3].bn.weight.data[4] = float("nan")
    with pytest.raises(InputError, match=r"criterion bn, model\.3\.bn: nan among them"):
        score(tiny_model, channel_graph(tiny_model))


# Bad input


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"'tailor', expected taylor\? All: bn, l1, .*, first$"):
        find("tailor")
    with pytest.raises(InputError, match=r"criterion: '', expected bn, l1, l2, next-l2, taylor"):
        find("")
    assert all(find(name).name == name for name in OURS)


@pytest.mark.parametrize("given", [None, Calibration(())])
def test_no_calibration_images(given: Calibration | None, tiny_model: nn.Module) -> None:
    message = "--criterion taylor: no calibration images, expected a data yaml with --data"
    with pytest.raises(InputError, match=message):
        score(tiny_model, channel_graph(tiny_model), "taylor", given)


def test_no_loss(tiny_model: nn.Module, calibration: Calibration) -> None:
    with pytest.raises(InputError, match="criterion taylor: calibration images without a loss"):
        score(tiny_model, channel_graph(tiny_model), "taylor", Calibration(calibration.batches))


def test_names_and_scales_that_cannot_be_registered(own: Path) -> None:
    with pytest.raises(InputError, match="criterion bn: a name that is taken"):
        criterion("bn")(lambda model, graph, calibration: {})
    with pytest.raises(InputError, match="criterion mine: scale='max', expected none, mean, l2"):
        criterion("mine", scale="max")
    for wrong in ({"help": 5}, {"recover": "weights"}, {"recover": 5}, {"spread": "thin"}):
        ((field, value),) = wrong.items()
        with pytest.raises(InputError, match=f"criterion mine: {field}={value!r}, expected"):
            criterion("mine", **wrong)
    for name in ("Auto", "", 5):
        with pytest.raises(InputError, match="criterion"):
            criterion(name)
    with pytest.raises(InputError, match="criterion mine: 5, expected a function"):
        criterion("mine")(5)
    own.write_text(OWN.replace('"mine"', '"taylor"'))
    with pytest.raises(InputError, match="does not import .*taylor: a name that is taken"):
        admit(own)
    assert function_of(find("taylor")).__module__ == "yolo_slim.pruning.criteria.taylor"
