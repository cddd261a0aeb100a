"""What stands for a module class of the user's while the host parses a model yaml."""

from __future__ import annotations

import pytest
from torch import nn

from yolo_slim.host.admitted import ADMITTED
from yolo_slim.host.classes import common
from yolo_slim.host.factories import Factory, with_factories


class Own(nn.Identity):
    """A class of the user's."""


class Block(nn.Module):
    def __init__(self, c1, c2, k=1):
        super().__init__()
        self.given = c1, c2, k


class Chain(nn.Module):
    def __init__(self, in_channels, out_channels, n):
        super().__init__()
        self.given = in_channels, out_channels, n


@pytest.mark.parametrize(("cls", "like"), [(Own, None), (Block, common.Conv), (Chain, common.C3)])
def test_it_equals_the_class_whose_arguments_its_own_begin_with(cls, like, monkeypatch) -> None:
    monkeypatch.setitem(ADMITTED, cls.__name__, cls)
    other = [-1, 1, "Conv", [64]]
    yaml = {"backbone": [other, [-1, 2, cls.__name__, [64]]], "head": [], "nc": 4}
    found = with_factories(yaml)
    (_, number, factory, args) = found["backbone"][1]
    assert found["backbone"][0] is other and yaml["backbone"][1][2] == cls.__name__
    assert isinstance(factory, Factory) and (number, args) == (2, [64])
    known = {common.Conv, common.C3, common.Bottleneck, nn.BatchNorm2d}
    assert (factory in known) == (like is not None)  # the question of parse_model
    assert [host for host in known if factory == host] == [like] * (like is not None)
    assert str(factory) == str(cls)


def test_it_builds_the_class() -> None:
    assert isinstance(Factory(Own, None)(), Own)
    assert Factory(Block, common.Conv)(3, 8).given == (3, 8, 1)
    assert Factory(Chain, common.C3)(3, 8, 2).given == (3, 8, 2)
