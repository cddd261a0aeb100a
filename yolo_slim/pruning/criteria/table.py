"""The table of criteria: how channels can be scored, and what goes with each way.

A row here and a function are a criterion; --help, messages and the docs' tables read the rows.
Nothing heavy is imported for them: a row of ours names its function, which is imported when a model
is scored (see `score`). A user's own criterion is added by the decorator `criterion`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

from yolo_slim.channels.residual import RESIDUAL, Residual
from yolo_slim.errors import InputError, check_count

Budget = Literal["global", "uniform", "per-mac"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)  # how a cut spreads over the layers
SCALES = ("none", "mean", "l2")
FITTED = ("constants", "weights")
AUTO = "auto"  # of --criterion: the command chooses a row, see `automatic`


@dataclass(frozen=True)
class Criterion:
    """A way to score channels.

    Attributes:
        name: of --criterion.
        home: the function (model, graph, calibration) to raw scores, BN name to (C,), see
            `criterion`; of ours its module and its name, such as "filters.l2_scores".
        help: what the score of a channel is, in a few words.
        data: it looks at calibration images.
        labels: it looks at their labels, too, which have to be of the model's classes.
        scale: what raw scores are divided by, layer by layer: "none", "mean" or "l2".
        residual: what may be cut around residual adds where the user does not say.
        recover: what is done after the cut where the user does not say.
        spread: how the cut spreads over the layers where the user does not say, see `prune`.
        batch: calibration images a batch.
        block: what a residual Bottleneck is worth as a whole (see `blocks`): the function (model,
            graph, calibration, names) to what is lost without each, in the unit of the scores;
            "": by the scores of the channels that it adds.
    """

    name: str
    home: str | Callable[..., Any]
    help: str = ""
    data: bool = False
    labels: bool = False
    scale: str = "none"
    residual: Residual = "skip"
    recover: tuple[str, ...] = ("constants",)
    spread: Budget = "global"
    batch: int = 8
    block: str = ""

    def __post_init__(self) -> None:
        where = f"criterion {self.name}"
        if not isinstance(self.name, str) or not self.name:
            raise InputError("criterion", repr(self.name), "a name")
        if not isinstance(self.help, str):
            raise InputError(where, f"help={self.help!r}", "a text")
        if not isinstance(self.recover, tuple) or not all(isinstance(p, str) for p in self.recover):
            raise InputError(where, f"recover={self.recover!r}", "a tuple of names of parts")
        for field, known in (
            ("scale", SCALES),
            ("residual", RESIDUAL),
            ("spread", BUDGETS),
        ):
            value = getattr(self, field)
            if not isinstance(value, str) or value not in known:
                raise InputError(where, f"{field}={value!r}", ", ".join(known))
        check_count(f"{where}, batch", self.batch)

    def around_adds(self, depth: bool) -> Residual:
        """What may be cut around residual adds where the user does not say.

        Args:
            depth: residual Bottlenecks may go as a whole: their inner channels, too, then.
        """
        return "inner" if depth and self.residual == "skip" else self.residual

    @property
    def ours(self) -> bool:
        """True for a criterion of this package."""
        return isinstance(self.home, str)


def _fitted(name: str, home: str, help: str, **others: Any) -> Criterion:
    """A criterion that looks at images; the convs are fitted after its cut."""
    return Criterion(name, home, help, data=True, residual="inner", recover=FITTED, **others)


_ROWS = (
    Criterion("bn", "plain.bn_scores", "|gamma|"),
    Criterion("l1", "filters.l1_scores", "L1 norm of its filter", scale="mean"),
    Criterion("l2", "filters.l2_scores", "L2 norm of its filter", scale="mean"),
    Criterion(
        "next-l2", "filters.next_scores", "L2 norm of the weights that read it", scale="mean"
    ),
    _fitted(
        "taylor",
        "taylor.taylor_scores",
        "what the loss changes by without it, to first order",
        labels=True,
        spread="per-mac",
        batch=1,
        block="silenced.squared_changes",
    ),
    _fitted(
        "thinet",
        "thinet.thinet",
        "what the next convs cannot make up for",
        spread="uniform",
        block="missing.missing_energy",
    ),
    _fitted(
        "obs",
        "obs.obs",
        "what the loss rises by once other channels stand in for it",
        labels=True,
        spread="uniform",
        block="weighted.weighted_errors",
    ),
    Criterion("random", "plain.random_scores", "drawn from [0, 1)"),
    Criterion("first", "plain.first_scores", "the first channels of a layer are kept"),
)
CRITERIA: dict[str, Criterion] = {row.name: row for row in _ROWS}  # and a user's own


def criterion(
    name: str,
    *,
    help: str = "",
    data: bool = False,
    labels: bool | None = None,
    scale: str = "none",
    residual: Residual = "skip",
    recover: tuple[str, ...] = ("constants",),
    spread: Budget = "global",
    batch: int = 8,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the function is the criterion of this name.

    The function is called with a copy of the model (float32, eval mode, every parameter with
    requires_grad), the graph, and the calibration images (None where `data` is not set and the user
    gave none). It may do to the copy what it likes. It returns a float tensor (C,) for each BN of
    `graph.prunable`.

    Args:
        name, help, data, scale, residual, recover, spread, batch: see `Criterion`.
        labels: see `Criterion`; None: as `data`.

    Raises:
        InputError: the name is one of ours, or a field has a value that is not known.

    Example:
        >>> from yolo_slim import criterion, prune
        >>> @criterion("largest-gamma", scale="mean")
        ... def largest(model, graph, calibration):
        ...     return {n.name: -model.get_submodule(n.name).weight for n in graph.prunable}
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> prune(model.eval(), 0.3, criterion="largest-gamma", imgsz=64).report.criterion
        'largest-gamma'
    """
    row = Criterion(
        name,
        "",
        help,
        data=data,
        labels=data if labels is None else labels,
        scale=scale,
        residual=residual,
        recover=tuple(recover) if isinstance(recover, list) else recover,
        spread=spread,
        batch=batch,
    )

    if name_given(name) == AUTO or (name in CRITERIA and CRITERIA[name].ours):
        raise InputError(f"criterion {name}", "a name that is taken", "a name of its own")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise InputError(f"criterion {name}", repr(function), "a function")
        CRITERIA[name] = replace(row, home=function)
        return function

    return register


def check_depth(depth: object, residual: str | None, *, named: bool) -> None:
    """See that residual Bottlenecks can go as a whole, if they may.

    Args:
        depth: they may.
        residual: what may be cut around residual adds, if the user says so.
        named: the budget is one of BUDGETS, or as suits the criterion.

    Raises:
        InputError: they cannot.
    """
    if not isinstance(depth, bool):
        raise InputError("--depth", f"{depth!r:.80}", "True or False")
    if depth and residual == "skip":
        expected = "inner or group: skip keeps residual Bottlenecks as they are"
        raise InputError("--residual", "skip with --depth", expected)
    if depth and not named:
        expected = f"--budget {', '.join(BUDGETS)}: a scan does not know what a Bottleneck costs"
        raise InputError("--depth", "given besides a sensitivity scan", expected)


def name_given(text: str) -> str:
    """What --criterion is given: `auto` in any case, a name as it is."""
    return AUTO if text.lower() == AUTO else text


def find(name: str, *, also: tuple[str, ...] = ()) -> Criterion:
    """The criterion of a name.

    Args:
        name: of --criterion.
        also: names that the caller takes besides, for the message.

    Raises:
        InputError: there is none; all that there are, are in the message.
    """
    if not isinstance(name, str) or name not in CRITERIA:
        known = [*also, *CRITERIA]
        near = get_close_matches(str(name), known, n=1, cutoff=0.7)
        text = f"{near[0]}? All: " if near else ""
        raise InputError("--criterion", repr(name)[:80], text + ", ".join(known))
    return CRITERIA[name]
