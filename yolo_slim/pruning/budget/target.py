"""How much goes, or is left: the one value that a target is, made where the user gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal, get_args

from yolo_slim.errors import InputError, as_python, check_share, option_of

Name = Literal["percent", "macs", "params", "size_mb", "latency"]
NAMES: tuple[Name, ...] = get_args(Name)
PERCENT, MACS, ROUND_TO = 0.6, 0.5, 32  # defaults; MACS of models that had no sparse training


@dataclass(frozen=True)
class Target:
    """What a cut is to come to.

    Attributes:
        name: percent: the share of the prunable channels that is cut, in [0, 1). macs, params,
            latency: the share that is left of the model that is cut, in (0, 1]. size_mb: the size
            of the checkpoint that is left, 10^6 bytes.
        value: in this unit.
        implied: nobody gave it: shares by layer that name every layer come before it.

    Raises:
        InputError: the value is out of range.

    Example:
        >>> Target.of(macs=0.5)
        Target(name='macs', value=0.5, implied=False)
        >>> Target.of().value
        0.6
    """

    name: Name
    value: float
    implied: bool = False

    def __post_init__(self) -> None:
        value = as_python(self.value)
        if self.name == "size_mb":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not value > 0 or not isfinite(value):
                raise InputError(self.option, f"{value!r:.80}", "MB, more than 0")
        elif self.name == "percent":
            check_share(self.option, value, one=False)
        else:
            check_share(self.option, value, "the share that is left,", zero=False)
        object.__setattr__(self, "value", float(value))

    @classmethod
    def of(
        cls,
        *,
        percent: float | None = None,
        macs: float | None = None,
        params: float | None = None,
        size_mb: float | None = None,
        latency: float | None = None,
    ) -> Target:
        """The one target that is given; 60% of the channels if none is.

        Args:
            percent, macs, params, size_mb, latency: its value; None for those that are not given.

        Raises:
            InputError: two are given, or one is out of range.
        """
        values = (percent, macs, params, size_mb, latency)
        given = {n: value for n, value in zip(NAMES, values, strict=True) if value is not None}
        if len(given) > 1:
            first, second, *_ = map(option_of, given)
            raise InputError(second, f"given besides {first}", "one target")
        for name, value in given.items():
            return cls(name, value)
        return cls("percent", PERCENT, implied=True)

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return option_of(self.name)

    def part(self, part: float, whole_mb: float = 0.0) -> Target:
        """The target of a step on the way; that of a latency is in MACs, which can be foreseen.

        Args:
            part: of the way, in [0, 1].
            whole_mb: size of the whole model, for a size.
        """
        if self.name == "percent":
            return replace(self, value=self.value * part)
        if self.name == "size_mb":
            return replace(self, value=whole_mb + (self.value - whole_mb) * part)
        name = "macs" if self.name == "latency" else self.name
        return replace(self, name=name, value=1 - (1 - self.value) * part)


def given_targets(values: Mapping[str, object]) -> bool:
    """True if one of these options is a target, and is given."""
    return any(values.get(name) is not None for name in NAMES)
