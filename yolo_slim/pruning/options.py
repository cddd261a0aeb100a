"""The options of a cut: one value, made and checked once, by nobody changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.channels.residual import RESIDUAL, Residual
from yolo_slim.device.table import DeviceTable, read_table
from yolo_slim.errors import InputError, check_count, check_seed, check_share, option_of
from yolo_slim.pruning.budget.globs import check_names
from yolo_slim.pruning.budget.target import ROUND_TO, Target
from yolo_slim.pruning.criteria.table import BUDGETS, Criterion, check_depth, find
from yolo_slim.pruning.recover.table import check_parts

if TYPE_CHECKING:
    from yolo_slim.pruning.budget.spread import Losses


@dataclass(frozen=True)
class CutOptions:
    """What `prune` goes by.

    Attributes:
        target: how much goes.
        criterion: how channels are scored, a name in the table of criteria.
        budget: how the cut spreads over the layers: one of BUDGETS, or what knows their losses;
            None: as suits the criterion.
        round_to: what a layer keeps is a multiple of it.
        min_channels: each layer keeps at least so many.
        residual: what may be cut around residual adds; None: as suits the criterion.
        depth: residual Bottlenecks may go as a whole; None: for a latency, where `residual` and
            `budget` allow it.
        keep: globs over the BNs that are never cut.
        ratios: glob to the share that is cut of each BN that it matches.
        steps: the cut comes in so many.
        recover: what is done after it; None: what belongs to the criterion.
        device: the table of a device, or its file, for a latency; None: of this machine.
        measure: a cut by the table of this machine is measured, and made again where the table is
            off; False: the table alone counts.
        table_file: where a table of this machine is kept; None: nowhere.
        imgsz: side of the image that MACs and latency are for, px.
        threads: of ONNX Runtime, for a latency.
        seed: of what is drawn.

    Raises:
        InputError: an option is out of range, or names nothing.

    Example:
        >>> CutOptions(Target.of(macs=0.5), criterion="thinet").row.spread
        'uniform'
    """

    target: Target = field(default_factory=Target.of)
    criterion: str = "bn"
    budget: str | Losses | None = None
    round_to: int = ROUND_TO
    min_channels: int = 1
    residual: Residual | None = None
    depth: bool | None = None
    keep: Sequence[str] = ()
    ratios: Mapping[str, float] = field(default_factory=dict)
    steps: int = 1
    recover: Sequence[str] | None = None
    device: DeviceTable | str | Path | None = None
    measure: bool = True
    table_file: Path | None = None
    imgsz: int = 640
    threads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        row = find(self.criterion)
        settled: dict[str, Any] = {
            name: check_count(option_of(name), getattr(self, name))
            for name in ("round_to", "min_channels", "steps", "threads", "imgsz")
        }
        settled["seed"] = check_seed("--seed", self.seed)
        check_names("--keep", self.keep)
        if self.recover is not None:
            check_names("--recover", self.recover)
        if not isinstance(self.ratios, Mapping) or not all(isinstance(g, str) for g in self.ratios):
            raise InputError("--ratio", repr(self.ratios)[:80], "a dict of globs and shares")
        ratios = {
            glob: check_share(f"--ratio {glob}={share}", share, one=False)
            for glob, share in self.ratios.items()
        }
        named = self.budget is None or (isinstance(self.budget, str) and self.budget in BUDGETS)
        if not named and not hasattr(self.budget, "losses"):
            raise InputError("--budget", repr(self.budget)[:80], f"{', '.join(BUDGETS)} or losses")
        named = isinstance(self.residual, str) and self.residual in RESIDUAL
        if self.residual is not None and not named:
            raise InputError("--residual", repr(self.residual)[:80], ", ".join(RESIDUAL))
        named = isinstance(self.budget, str | None)
        depth = self.target.name == "latency" and self.residual != "skip" and named
        depth = depth if self.depth is None else self.depth
        check_depth(depth, self.residual, named=named)
        if self.device is not None and self.target.name != "latency":
            raise InputError("--device", f"a table, with {self.target.option}", "--latency")
        if isinstance(self.device, str | Path):
            settled["device"] = read_table(self.device)
        elif not isinstance(self.device, DeviceTable | None):
            raise InputError("device", repr(self.device)[:80], "a table, or its file")
        settled |= {
            "budget": row.spread if self.budget is None else self.budget,
            "depth": depth,
            "residual": self.residual or row.around_adds(depth),
            "recover": check_parts(row.recover if self.recover is None else self.recover),
            "keep": tuple(self.keep),
            "ratios": ratios,
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def row(self) -> Criterion:
        """The criterion."""
        return find(self.criterion)
