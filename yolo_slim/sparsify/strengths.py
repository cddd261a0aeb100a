"""The strengths of a penalty: what they may be. Nothing heavy is imported."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from yolo_slim.errors import InputError, as_python

Method = Literal["l1", "prox"]
METHODS: tuple[Method, ...] = get_args(Method)
AUTO: Literal["auto"] = "auto"


def check_macs(macs: float | None, sr: Any, penalty: str | None) -> None:
    """See that a share of the MACs is asked of the strategy that can aim at one.

    Raises:
        InputError: sr is a number, or the penalty is the L1.
    """
    if macs is not None and (sr not in (None, AUTO) or penalty not in (None, "prox")):
        raise InputError("--macs", "given with another --sr or --penalty", "auto and prox")


def check_strengths(sr: Any, bias_sr: Any, prefix: str = "") -> None:
    """Check what can be checked without a model; `prefix` is that of an option's name.

    Raises:
        InputError: sr is neither "auto" nor a finite number, 0 or more; or bias_sr is no such.
    """
    for name, value in (("sr", as_python(sr)), ("bias_sr", as_python(bias_sr))):
        if value is None or (name == "sr" and isinstance(value, str) and value == AUTO):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (math.isfinite(value) and value >= 0):
            or_auto = ", or auto" if name == "sr" else ""
            option = f"{prefix}{name.replace('_', '-')}" if prefix else name
            raise InputError(option, f"{value!r:.80}", f"a finite number, 0 or more{or_auto}")
