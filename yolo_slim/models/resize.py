"""Any module with given channel counts: built by its own class, then its convs get other sizes.

The module stays what its class made it, so its forward is its own; this is what lets a module type
be pruned that has nothing but a rule. A row of pruned.yaml is then

    [from, number, Class, [out, [arguments of Class], {cv1: [in, out], bn: channels, act: nn.X()}]]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.classes import common, yolo
from yolo_slim.host.clone_classes import take_hosts_
from yolo_slim.host.yamls import activation_text, is_activation, parse_activation
from yolo_slim.models.sharing import share_, shared_in

# child name -> [in, out] of a conv, channels of a BN, text of an activation, None: it is gone
Sizes = dict[str, Any]
PLAIN = (int, float, str, tuple)
HOSTS = ("yolov5.", "yolo_slim.")  # modules whose classes are YOLOv5's, or stand for them
UNBUILT = "what the model's yaml builds; anything else needs a class of its own"
UNBUILT += " (docs/own-modules.md)"
SELF = "self"  # the name of a layer that is a conv or a BN itself
SET_LATER = {"training", "i", "f", "np", "type", "eps", "momentum", "inplace"}  # by the host
SIZES = {"in_channels", "out_channels", "groups", "num_features", "num_parameters"}
SIZES |= {"in_features", "out_features"}
LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def build_resized(cls: Any, number: int, args: Sequence[Any], sizes: Mapping[str, Any]) -> Any:
    """Build `number` modules of a class in a row, and give their convs these sizes.

    Args:
        cls: the class.
        number: how many; more than one make an nn.Sequential.
        args: what its constructor takes.
        sizes: child name to [in, out] of a conv (a Conv with its BN), to the channels of a BN or of
            a module with a row of parameters a channel, or to the text of an activation; None: an
            nn.Identity stands in its place. A child that is missing stays as it was built.

    Raises:
        InputError: there is no such child.
    """
    built = [take_hosts_(cls(*args)) for _ in range(number)]
    return resize_(nn.Sequential(*built) if number > 1 else built[0], sizes, cls.__name__)


def resize_(module: nn.Module, sizes: Mapping[str, Any], title: str) -> nn.Module:
    """Give the convs of a module these sizes, with fresh weights, in place.

    Args:
        module: any module.
        sizes: see `build_resized`.
        title: what an error calls it.

    Raises:
        InputError: there is no such child.
    """
    shared = shared_in(module) if sizes else None
    for name, value in sizes.items():
        try:
            child = module if name == SELF else module.get_submodule(name)
        except AttributeError as error:
            raise InputError(title, f"no {name} in it", "the name of a child") from error
        if value is None or isinstance(value, str):
            parent, _, attribute = name.rpartition(".")
            new = nn.Identity() if value is None else parse_activation(value)
            setattr(module.get_submodule(parent), attribute, new)
        elif isinstance(child, common.Conv):
            _resize_conv_(child.conv, *value)
            _resize_norm_(child.bn, value[1])
        elif isinstance(child, nn.BatchNorm2d):
            _resize_norm_(child, value)
        elif isinstance(child, LINEAR):
            _resize_conv_(child, *value)
        elif isinstance(value, int):
            _resize_rows_(child, value)
        else:
            raise InputError(f"{title}, {name}", type(child).__name__, "a conv or a BN")
    return module if shared is None else share_(module, shared)


def sized(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What in a module has a size: Convs (with their BN), bare convs, bare BNs."""
    inside: set[str] = set()
    for name, child in module.named_modules():
        if name in inside:
            continue
        if isinstance(child, common.Conv):
            inside |= {f"{name}.conv".lstrip("."), f"{name}.bn".lstrip(".")}
        if isinstance(child, (common.Conv, nn.BatchNorm2d, *LINEAR)):
            yield name or SELF, child


def activations(module: nn.Module) -> dict[str, str]:
    """Child name to text, for each activation of torch.nn."""
    return {
        name: activation_text(child)
        for name, child in module.named_modules(remove_duplicate=False)
        if name and is_activation(child)
    }


def identities(module: nn.Module) -> list[str]:
    """Names of the children of an nn.Sequential that do nothing: where a block was cut."""
    return [
        f"{name}.{child}".lstrip(".")
        for name, parent in module.named_modules()
        if isinstance(parent, nn.Sequential)
        for child, inner in parent.named_children()
        if type(inner) is nn.Identity
    ]


def same_structure(a: nn.Module, b: nn.Module) -> bool:
    """True if two modules have the same children, types, shapes and settings.

    Settings are numbers and texts in the attributes, as far as both have them: a module of an older
    YOLOv5 lacks some. Activations are left aside.
    """

    def look(module: nn.Module) -> tuple[dict[str, nn.Module], dict[str, torch.Size]]:
        acts = activations(module)
        named = dict(module.named_modules(remove_duplicate=False))
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        inside = tuple(f"{name}." for name in acts)  # a PReLU's slopes
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith(inside)}
        return {name: child for name, child in named.items() if name not in acts}, shapes

    (ours, shapes), (theirs, other_shapes) = look(a), look(b)
    if shapes != other_shapes or ours.keys() != theirs.keys():
        return False
    return all(
        type(one) is type(theirs[name]) and _same_settings(vars(one), vars(theirs[name]))
        for name, one in ours.items()
    )


def check_settings(model: nn.Module, built: nn.Module, gone: Sequence[str] = ()) -> None:
    """See that a model is what its yaml builds, but for its sizes: what no yaml names is lost.

    Args:
        model: as it is.
        built: from its yaml, or from the pruned one.
        gone: names of modules of the model in whose place nothing stands.

    Raises:
        InputError: a module was put in, or has a setting (a bias, a padding, a kernel), that the
            yaml does not build.
    """
    others = dict(built.named_modules(remove_duplicate=False))
    for name, module in model.named_modules():
        other = others.get(name)
        if not name or isinstance(module, yolo.Detect):  # it has other classes after a training
            continue
        if f"{name}.".startswith(tuple(f"{block}." for block in gone)):
            continue
        if other is None or not _same_kind(module, other):
            got = f"a {_kind(module)}, where the yaml builds {_article(other)}"
            raise InputError(name, got, UNBUILT)
        home = type(module).__module__
        if not home.startswith(("torch.nn.", *HOSTS)):
            continue  # what a class of the user's keeps in its attributes is not known
        ours, theirs = _settings(module), _settings(other)
        for setting in (key for key in ours if key in theirs and ours[key] != theirs[key]):
            got = f"{setting} {ours[setting]}, where the yaml builds {theirs[setting]}"
            raise InputError(name, got, UNBUILT)


def _kind(module: nn.Module) -> str:
    """The class of a module; one with given counts stands for YOLOv5's own."""
    return type(module).__name__.removesuffix("Pruned")


def _same_kind(module: nn.Module, other: nn.Module) -> bool:
    """True for two of one class; pruned.yaml may name the host's base of it (Conv for a DWConv)."""
    ours, theirs = type(module), type(other)
    hosts = all(home.__module__.startswith(HOSTS) for home in (ours, theirs))
    return _kind(module) == _kind(other) or (hosts and issubclass(ours, theirs))


def _article(module: nn.Module | None) -> str:
    return "nothing" if module is None else f"a {_kind(module)}"


def _settings(module: nn.Module) -> dict[str, Any]:
    """What a module was built with, but for its sizes."""
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in vars(module).items()
        if isinstance(value, (*PLAIN, list)) and key[0] != "_" and key not in SET_LATER | SIZES
    }
    if isinstance(module, nn.Conv2d):
        settings["bias"] = module.bias is not None
    return settings


def _same_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    shared = (a.keys() & b.keys()) - SET_LATER
    return all(a[k] == b[k] for k in shared if isinstance(a[k], PLAIN) and isinstance(b[k], PLAIN))


def _resize_conv_(conv: Any, c_in: int, c_out: int) -> None:
    if isinstance(conv, nn.Linear):
        conv.in_features, conv.out_features = c_in, c_out
        shape: tuple[int, ...] = (c_out, c_in)
    else:
        if conv.groups == conv.in_channels == conv.out_channels > 1:
            conv.groups = c_out
        conv.in_channels, conv.out_channels = c_in, c_out
        shape = (c_out, c_in // conv.groups)
        if conv.transposed:
            shape = (c_in, c_out // conv.groups)
        shape += tuple(conv.kernel_size)
    conv.weight = _fresh(conv.weight, *shape)
    if conv.bias is not None:
        conv.bias = _fresh(conv.bias, c_out)
    conv.reset_parameters()


def _resize_norm_(norm: nn.BatchNorm2d, channels: int) -> None:
    norm.num_features = channels
    norm.weight, norm.bias = _fresh(norm.weight, channels), _fresh(norm.bias, channels)
    norm.running_mean = norm.running_mean.new_empty(channels)
    norm.running_var = norm.running_var.new_empty(channels)
    norm.reset_parameters()


def _resize_rows_(module: Any, channels: int) -> None:
    """Keep the first rows of the parameters and buffers that have one a channel."""
    own = {**module._parameters, **module._buffers}
    rows = next((len(value) for value in own.values() if value is not None and value.ndim), 0)
    for key, value in own.items():
        if value is not None and value.ndim and len(value) == rows:
            first = value.detach()[:channels].clone()
            parameter = isinstance(value, nn.Parameter)
            setattr(module, key, nn.Parameter(first, value.requires_grad) if parameter else first)
    for count in ("num_parameters", "num_features"):  # of torch.nn's own
        if getattr(module, count, None) == rows:
            setattr(module, count, channels)


def _fresh(old: nn.Parameter, *shape: int) -> nn.Parameter:
    """An empty parameter of another shape; device, type and being frozen as before."""
    return nn.Parameter(old.detach().new_empty(shape), requires_grad=old.requires_grad)
