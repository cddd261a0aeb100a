"""YOLOv5's commonest modules with every channel count given.

Each is the host's class with another constructor, so its forward is the host's own. `spec` reads
the counts that a module of a model has: the arguments that build it again. They make pruned.yaml
read well; all other types go through `resize`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.classes import common, register, yolo
from yolo_slim.models.resize import activations

Spec = list[Any]  # arguments after the input channels, as they stand in pruned.yaml
Kept = Callable[[str], int]


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
        bottlenecks: [inner, out] of each; None where one was cut as a whole: an nn.Identity stands
            in its place, so that the others keep their names.
        add: the Bottlenecks have a residual add.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        cv1: int,
        cv2: int,
        bottlenecks: Sequence[Sequence[int] | None],
        add: bool,
    ) -> None:
        nn.Module.__init__(self)
        self.cv1 = common.Conv(c1, cv1, 1, 1)
        self.cv2 = common.Conv(c1, cv2, 1, 1)
        blocks, c = list[nn.Module](), cv1
        for row in bottlenecks:
            blocks.append(
                nn.Identity() if row is None else BottleneckPruned(c, row[0], row[1], add)
            )
            c = c if row is None else row[1]
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


@register
class SegmentPruned(yolo.Segment):
    """Segment whose mask branch has given counts.

    Args:
        nc: number of classes.
        anchors: px, a row a scale.
        nm: number of masks.
        protos: channels of the two convs of the mask branch.
        ch: input channels of each scale.
    """

    def __init__(
        self, nc: int, anchors: Sequence, nm: int, protos: Sequence[int], ch: Sequence[int]
    ) -> None:
        super().__init__(nc, anchors, nm, 1, ch)
        self.npr = protos[0]
        self.proto.cv1 = common.Conv(ch[0], protos[0], k=3)
        self.proto.cv2 = common.Conv(protos[0], protos[1], k=3)
        self.proto.cv3 = common.Conv(protos[1], nm)


def _square(value: int | tuple[int, ...]) -> int | list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values[0] if len(set(values)) == 1 else values


def _conv_spec(m: Any, kept: Kept) -> Spec:
    conv, out = m.conv, kept("bn")
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    spec: Spec = [out, *map(_square, (conv.kernel_size, conv.stride, conv.padding))]
    spec += [out if depthwise else conv.groups, _square(conv.dilation)]
    spec += [False] if isinstance(m.act, nn.Identity) else []
    for default in (1, 1, common.autopad(spec[1], None, spec[5])):  # dilation, groups, padding
        if len(spec) > 2 and spec[-1] == default and not isinstance(spec[-1], bool):
            spec.pop()
        else:
            break
    return spec


def _c3_spec(m: Any, kept: Kept) -> Spec | None:
    places = dict(m.m.named_children()) if isinstance(m.m, nn.Sequential) else {"": m.m}
    blocks = {i: block for i, block in places.items() if type(block) is not nn.Identity}
    add = [bool(getattr(block, "add", False)) for block in blocks.values()] or [True]
    plain = all(
        type(block) in (common.Bottleneck, BottleneckPruned)
        and bool(block.add) == add[0]
        and block.cv2.conv.groups == 1
        for block in blocks.values()
    )
    if not plain:
        return None
    counts = [
        [kept(f"m.{i}.cv1.bn"), kept(f"m.{i}.cv2.bn")] if i in blocks else [0] for i in places
    ]
    rows = [row if row[0] else None for row in counts]
    return [kept("cv3.bn"), kept("cv1.bn"), kept("cv2.bn"), rows, add[0]]


def _sppf_spec(m: Any, kept: Kept) -> Spec | None:
    if type(m.m) is not nn.MaxPool2d:
        return None
    return [kept("cv2.bn"), kept("cv1.bn"), m.m.kernel_size]


def _spp_spec(m: Any, kept: Kept) -> Spec | None:
    if any(type(pool) is not nn.MaxPool2d for pool in m.m):
        return None
    return [kept("cv2.bn"), kept("cv1.bn"), [pool.kernel_size for pool in m.m]]


def _upsample_spec(m: Any, kept: Kept) -> Spec:
    scale = None if m.scale_factor is None else _whole(m.scale_factor)
    return [m.size, scale, m.mode] + ([] if m.align_corners is None else [m.align_corners])


def _max_pool_spec(m: Any, kept: Kept) -> Spec:
    more = [m.dilation, m.return_indices, m.ceil_mode]
    return [m.kernel_size, m.stride, m.padding] + (more if more != [1, False, False] else [])


def _segment_spec(m: Any, kept: Kept) -> Spec:
    return ["nc", "anchors", int(m.nm), [kept("proto.cv1.bn"), kept("proto.cv2.bn")]]


# Module type -> the name in pruned.yaml and the function that reads its arguments.
# kept("cv1.bn") is the number of channels that BN keeps.
# A spec is None where a module cannot be written that way.
SPECS: dict[type, tuple[str, Callable[[Any, Kept], Spec | None]]] = {
    common.Conv: ("Conv", _conv_spec),
    common.DWConv: ("Conv", _conv_spec),
    common.C3: ("C3Pruned", _c3_spec),
    C3Pruned: ("C3Pruned", _c3_spec),
    common.SPPF: ("SPPFPruned", _sppf_spec),
    SPPFPruned: ("SPPFPruned", _sppf_spec),
    common.SPP: ("SPPPruned", _spp_spec),
    SPPPruned: ("SPPPruned", _spp_spec),
    common.Concat: ("Concat", lambda m, kept: [m.d]),
    nn.Upsample: ("nn.Upsample", _upsample_spec),
    nn.MaxPool2d: ("nn.MaxPool2d", _max_pool_spec),
    nn.ZeroPad2d: ("nn.ZeroPad2d", lambda m, kept: [list(m.padding)]),
    yolo.Detect: ("Detect", lambda m, kept: ["nc", "anchors"]),
    yolo.Segment: ("SegmentPruned", _segment_spec),
    SegmentPruned: ("SegmentPruned", _segment_spec),
}
HEADS: dict[str, type[nn.Module]] = {"Detect": yolo.Detect, "SegmentPruned": SegmentPruned}

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
    "nn.ZeroPad2d": nn.ZeroPad2d,
}


def spec(module: nn.Module, activation: str, kept: Kept) -> tuple[str, Spec] | None:
    """Name and arguments of a module in pruned.yaml; None where only `resize` can build it.

    Args:
        module: a layer of a model.
        activation: the text of the model's default activation.
        kept: name of a BN in the module to the number of channels that it keeps.
    """
    if type(module) not in SPECS or set(activations(module).values()) - {activation}:
        return None
    name, read = SPECS[type(module)]
    written = read(module, kept)
    return None if written is None else (name, written)


def _whole(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value
