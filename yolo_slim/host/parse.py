"""From a model yaml to layers, as YOLOv5's parse_model makes them.

That knows its own classes alone. Here a class of the user's gets the channels that its constructor
asks for, and may read several layers; what does not fit is named by its layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.admitted import ADMITTED
from yolo_slim.host.compat import mend
from yolo_slim.host.yamls import check_model_yaml, check_structure, parse_activation

mend()

from yolov5.models import common, experimental, yolo  # noqa: E402

REPEATED = {common.BottleneckCSP, common.C3, common.C3TR, common.C3Ghost, common.C3x}
SCALED = REPEATED | {  # built as cls(input channels, output channels, ...)
    *(common.Conv, common.GhostConv, common.Bottleneck, common.GhostBottleneck, common.SPP),
    *(common.SPPF, common.DWConv, experimental.MixConv2d, common.Focus, common.CrossConv),
    *(common.C3SPP, nn.ConvTranspose2d, common.DWConvTranspose2d),
}
VALUES = {"None": None, "True": True, "False": False}
MAP = 24  # px of the maps on which a module is run to see how many channels it hands on


class Parser:
    """The values of a yaml that hold for all its layers.

    Args:
        data: a model yaml; it is not changed.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        anchors, self.width, self.depth = (
            data[key] for key in ("anchors", "width_multiple", "depth_multiple")
        )
        self.values = {**VALUES, "nc": data["nc"], "anchors": anchors}
        count = anchors if isinstance(anchors, int) else len(anchors[0]) // 2
        self.outputs = count * (data["nc"] + 5)  # of a conv that detects: no multiple of 8

    def scaled(self, channels: int) -> int:
        """Output channels as the yaml gives them, times its width, in whole eights."""
        return channels if channels == self.outputs else ceil(channels * self.width / 8) * 8

    def times(self, number: int) -> int:
        """How many modules in a row: as the yaml gives it, times its depth."""
        return max(round(number * self.depth), 1) if number > 1 else number

    def layer(
        self, cls: type[nn.Module], number: int, args: Sequence[Any], inputs: list[int]
    ) -> tuple[nn.Module, int]:
        """One layer, and the channels that it hands on.

        Args:
            cls: its class.
            number: how many in a row.
            args: as the yaml gives them.
            inputs: the channels of what it reads.
        """
        given = [self.values.get(a, a) if isinstance(a, str) else a for a in args]
        c1 = inputs[0]
        if cls in SCALED:
            c2 = self.scaled(given[0])
            given = [c1, c2, *given[1:]]
            if cls in REPEATED:
                given, number = [*given[:2], number, *given[2:]], 1
            return in_a_row(cls, given, number), c2
        if cls is nn.BatchNorm2d:
            return in_a_row(cls, [c1], number), c1
        if issubclass(cls, yolo.Detect):
            if isinstance(given[1], int):  # anchors a layer, for AutoAnchor to replace
                given[1] = [list(range(given[1] * 2))] * len(inputs)
            if issubclass(cls, yolo.Segment):
                given[3] = ceil(given[3] * self.width / 8) * 8
            return in_a_row(cls, [*given, inputs], number), c1
        if cls is common.Concat:
            return in_a_row(cls, given, number), sum(inputs)
        return self.other(cls, number, given, inputs)

    def other(
        self, cls: type[nn.Module], number: int, given: list[Any], inputs: list[int]
    ) -> tuple[nn.Module, int]:
        """A layer of torch.nn or of a class of the user's, see docs/own-modules.md.

        A constructor that begins with input and output channels gets them, with the number of
        repeats third if that is called n; without arguments it hands on as many as it reads. Where
        several layers are read, the input channels are one number if all have as many, else a list;
        a constructor that begins with them alone gets the list, and one that takes one argument
        more than the yaml gives the number of layers. How many channels the layer hands on is seen.
        """
        names = list(inspect.signature(cls).parameters)[:3] if ADMITTED.get(cls.__name__) else []
        several, out = len(inputs) > 1, inputs[0]
        if len(names) > 1 and is_input(names[0]) and is_output(names[1]):
            rest = given[1:]
            out = self.scaled(given[0]) if given else out
            if names[2:] == ["n"]:
                number, rest = 1, [number, *rest]
            ways = [[inputs[0], out, *rest]] if len(set(inputs)) == 1 else []
            ways += [[inputs, out, *rest], given] if several else []  # given: all written out
        elif several and names and is_input(names[0]):
            ways = [[inputs, *given]]
        else:
            ways = [given, [len(inputs), *given]] if several else [given]
        module = first_that_builds(cls, number, ways)
        return module, channels_seen(module, inputs) or out


def in_a_row(cls: type[nn.Module], args: Sequence[Any], number: int) -> nn.Module:
    """One module, or several in an nn.Sequential."""
    return nn.Sequential(*(cls(*args) for _ in range(number))) if number > 1 else cls(*args)


def first_that_builds(cls: type[nn.Module], number: int, ways: Sequence[Sequence[Any]]) -> Any:
    """A module, by the first arguments that its constructor takes."""
    failed: Exception | None = None
    for args in ways:
        try:
            return in_a_row(cls, args, number)
        except Exception as error:  # a constructor of the user's may raise anything
            failed = failed or error
    assert failed is not None
    raise failed


@torch.no_grad()
def channels_seen(module: nn.Module, inputs: list[int]) -> int | None:
    """Channels of a module's output on maps of zeros; None where it does not run on them."""
    modes = {part: part.training for part in module.modules()}
    maps = [torch.zeros(1, channels, MAP, MAP) for channels in inputs]
    try:
        with torch.random.fork_rng(devices=[]):
            out = module.eval()(maps if len(maps) > 1 else maps[0])
        return int(out.shape[1])
    except Exception:  # maps of other sizes, several outputs
        return None
    finally:
        for part, mode in modes.items():
            part.training = mode


def parse_model(data: dict[str, Any], ch: list[int]) -> tuple[nn.Sequential, list[int]]:
    """The layers of a model yaml.

    Args:
        data: the yaml.
        ch: [image channels].

    Returns:
        The layers, and the indices of those whose output is needed later.

    Raises:
        InputError: the yaml is not one, or a layer cannot be built.
    """
    check_model_yaml(data, namespace={**vars(yolo), **ADMITTED})
    check_structure(data, lambda name: issubclass(known_class(name), yolo.Detect))
    if data.get("activation"):
        common.Conv.default_act = parse_activation(data["activation"])  # as the host's
    parser, log = Parser(data), yolo.LOGGER.info
    log(f"\n{'':>3}{'from':>18}{'n':>3}{'params':>10}  {'module':<40}{'arguments':<30}")
    layers: list[nn.Module] = []
    counts: list[int] = []
    save: set[int] = set()
    for i, (f, number, name, args) in enumerate([*data["backbone"], *data["head"]]):
        sources = [f] if isinstance(f, int) else list(f)
        inputs = [counts[s] if counts else ch[-1] for s in sources]
        number = parser.times(number)
        module, out = built(i, name, args, parser, number, inputs)
        module.i, module.f = i, f
        module.type = str(known_class(name))[8:-2]
        module.np = sum(p.numel() for p in module.parameters())
        log(f"{i:>3}{str(f):>18}{number:>3}{module.np:10.0f}  {module.type:<40}{str(args):<30}")
        save |= {s % i for s in sources if s != -1}
        layers.append(module)
        counts.append(out)
    return nn.Sequential(*layers), sorted(save)


def built(
    index: int, name: str, args: Any, parser: Parser, number: int, inputs: list[int]
) -> tuple[nn.Module, int]:
    """`Parser.layer`, which a constructor may end in any way, as one line that names the layer.

    Raises:
        InputError: it cannot be built.
    """
    cls = known_class(name)
    try:
        return parser.layer(cls, number, args, inputs)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        got = f"{args!s:.60} on {inputs} channels, which cannot be built ({text})"
        where = f"model yaml, layer {index}, {name}"
        expected = f"arguments of {name}{signature_of(cls)}"
        expected += "; see docs/own-modules.md" if name in ADMITTED else ""
        raise InputError(where, got, expected) from error


def signature_of(cls: Any) -> str:
    """(c1, c2, k=1): the arguments of a class, without their types."""
    parameters = inspect.signature(cls).parameters.values()
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(plain))


def known_class(name: str) -> Any:
    """The class that a yaml means by a name that `check_model_yaml` has let through."""
    if name.startswith("nn."):
        return getattr(nn, name[3:])
    return ADMITTED.get(name) or vars(yolo)[name]


def is_input(name: str) -> bool:
    """True for what constructors call their input channels."""
    return name in ("c1", "ch_in", "ch") or name.lower().startswith(("in", "cin"))


def is_output(name: str) -> bool:
    """True for what constructors call their output channels."""
    return name in ("c2", "ch_out") or name.lower().startswith(("ou", "cout"))
