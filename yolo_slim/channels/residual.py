"""What may be cut around residual adds."""

from __future__ import annotations

from typing import Literal, get_args

Residual = Literal["skip", "inner", "group"]
RESIDUAL: tuple[Residual, ...] = get_args(Residual)
