"""YOLOv5's modules with every channel count given.

Each is the host's class with another constructor, so its forward is the host's own. `spec` reads
the counts that a module of a model has: the arguments that build it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.checkpoint import common, register, yolo

Spec = list[Any]  # arguments after the input channels, as they stand in pruned.yaml


@register
class BottleneckPruned(common.Bottleneck):
    """Bottleneck(c1 -> inner -> c2); the add is explicit, not a matter of equal counts."""

    def __init__(self, c1: int, inner: int, c2: int, add: bool) -> None:
        nn.Module.__init__(self)
        if add and c1 != c2:
            raise InputError("BottleneckPruned", f"{c1} and {c2} channels", "equal counts to add")
        self.cv1 = common.Conv(c1, inner, 1, 1)
        self.cv2 = common.Conv(inner, c2, 3, 1)
        self.add = add


@register
class C3Pruned(common.C3):
    """C3 with given counts.

    Args:
        c1: input channels.
        c2: output channels (cv3).
        cv1: channels that enter the Bottlenecks.
        cv2: channels that go past them.
        bottlenecks: [inner, out] of each.
        add: the Bottlenecks have a residual add.
    """

    def __init__(
        self, c1: int, c2: int, cv1: int, cv2: int, bottlenecks: Sequence[Sequence[int]], add: bool
    ) -> None:
        nn.Module.__init__(self)
        self.cv1 = common.Conv(c1, cv1, 1, 1)
        self.cv2 = common.Conv(c1, cv2, 1, 1)
        blocks, c = [], cv1
        for inner, out in bottlenecks:
            blocks.append(BottleneckPruned(c, inner, out, add))
            c = out
        self.m = nn.Sequential(*blocks)
        self.cv3 = common.Conv(c + cv2, c2, 1)


@register
class SPPFPruned(common.SPPF):
    """SPPF with given counts: cv1 channels are pooled three times and joined four times."""

    def __init__(self, c1: int, c2: int, cv1: int, k: int = 5) -> None:
        nn.Module.__init__(self)
        self.cv1 = common.Conv(c1, cv1, 1, 1)
        self.cv2 = common.Conv(cv1 * 4, c2, 1, 1)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)


@register
class SPPPruned(common.SPP):
    """SPP with given counts."""

    def __init__(self, c1: int, c2: int, cv1: int, k: Sequence[int] = (5, 9, 13)) -> None:
        nn.Module.__init__(self)
        self.cv1 = common.Conv(c1, cv1, 1, 1)
        self.cv2 = common.Conv(cv1 * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList([nn.MaxPool2d(kernel_size=x, stride=1, padding=x // 2) for x in k])


def _square(value: int | tuple[int, ...]) -> int | list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values[0] if len(set(values)) == 1 else values


def _conv_spec(m: Any, kept: Callable[[str], int]) -> Spec:
    conv = m.conv
    if conv.groups not in (1, conv.in_channels):
        raise InputError("Conv", f"{conv.groups} groups", "1 group or depthwise")
    out = kept("bn")
    spec: Spec = [out, *map(_square, (conv.kernel_size, conv.stride, conv.padding))]
    spec += [1 if conv.groups == 1 else out, _square(conv.dilation)]
    spec += [False] if isinstance(m.act, nn.Identity) else []
    for default in (1, 1, common.autopad(spec[1], None, spec[5])):  # dilation, groups, padding
        if len(spec) > 2 and spec[-1] == default and not isinstance(spec[-1], bool):
            spec.pop()
        else:
            break
    return spec


def _c3_spec(m: Any, kept: Callable[[str], int]) -> Spec:
    rows = [[kept(f"m.{i}.cv1.bn"), kept(f"m.{i}.cv2.bn")] for i in range(len(m.m))]
    add = bool(len(m.m)) and bool(m.m[0].add)
    return [kept("cv3.bn"), kept("cv1.bn"), kept("cv2.bn"), rows, add]


def _sppf_spec(m: Any, kept: Callable[[str], int]) -> Spec:
    return [kept("cv2.bn"), kept("cv1.bn"), m.m.kernel_size]


def _spp_spec(m: Any, kept: Callable[[str], int]) -> Spec:
    return [kept("cv2.bn"), kept("cv1.bn"), [pool.kernel_size for pool in m.m]]


# Module type -> the name in pruned.yaml and the function that reads its arguments.
# kept("cv1.bn") is the number of channels that BN keeps.
SPECS: dict[type, tuple[str, Callable[[Any, Callable[[str], int]], Spec]]] = {
    common.Conv: ("Conv", _conv_spec),
    common.DWConv: ("Conv", _conv_spec),
    common.C3: ("C3Pruned", _c3_spec),
    C3Pruned: ("C3Pruned", _c3_spec),
    common.SPPF: ("SPPFPruned", _sppf_spec),
    SPPFPruned: ("SPPFPruned", _sppf_spec),
    common.SPP: ("SPPPruned", _spp_spec),
    SPPPruned: ("SPPPruned", _spp_spec),
    common.Concat: ("Concat", lambda m, kept: [m.d]),
    nn.Upsample: (
        "nn.Upsample",
        lambda m, kept: [
            m.size,
            None if m.scale_factor is None else _whole(m.scale_factor),
            m.mode,
        ],
    ),
    nn.MaxPool2d: ("nn.MaxPool2d", lambda m, kept: [m.kernel_size, m.stride, m.padding]),
    yolo.Detect: ("Detect", lambda m, kept: ["nc", "anchors"]),
}

# Name in pruned.yaml -> class, for layers built as cls(input channels, *args) with args[0] outputs.
BUILT: dict[str, type[nn.Module]] = {
    "Conv": common.Conv,
    "C3Pruned": C3Pruned,
    "SPPFPruned": SPPFPruned,
    "SPPPruned": SPPPruned,
}
# Layers that hand their channels on, built as cls(*args).
PASSING: dict[str, type[nn.Module]] = {
    "nn.Upsample": nn.Upsample,
    "nn.MaxPool2d": nn.MaxPool2d,
}


def _whole(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value
