"""inspect: the channel graph of a checkpoint, in words, as JSON and as a picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.as_called import named
from yolo_slim.channels.residual import RESIDUAL
from yolo_slim.files import CHECKPOINT, check_file
from yolo_slim.parsing import OneLineParser, add_place
from yolo_slim.runs import new_run, removed_if_empty
from yolo_slim.text import say

if TYPE_CHECKING:
    from yolo_slim.channels.residual import Residual
    from yolo_slim.host.checkpoint import Checkpoint


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("inspect"),
        description="Print and draw the channel graph of a checkpoint: its BatchNorms, which convs "
        "read them, which are tied or pinned and why, and how |gamma| is distributed.",
    )
    parser.add_argument("weights", help="checkpoint (.pt)")
    add = parser.add_argument_group("how it is read").add_argument
    add(
        "--residual",
        choices=RESIDUAL,
        help="what may be cut around a residual add: nothing, the inner channels of the "
        "Bottleneck, or all, tied together (default: as a cut of this model takes it)",
    )
    group = parser.add_argument_group("shown and written")
    text = "print one JSON object; draw and write nothing"
    group.add_argument("--json", action="store_true", help=text)
    add_place(group, "runs/inspect")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Inspect; returns the run's folder, None with --json."""
    opt = parse(argv)
    check_file(opt.weights, opt.weights, CHECKPOINT)

    from yolo_slim.channels.rules import channel_graph
    from yolo_slim.models import load
    from yolo_slim.report.graph_plot import plot_graph
    from yolo_slim.report.graph_table import graph_table
    from yolo_slim.report.inspection import inspection

    source = load(opt.weights)
    residual, why = (opt.residual, "as given") if opt.residual else usual_residual(source)
    view = inspection(source.model, channel_graph(source.model, residual), opt.weights)
    if opt.json:
        print(json.dumps(view.as_dict(), indent=2, allow_nan=False))
        return None
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    with removed_if_empty(folder):
        picture = plot_graph(view, folder / "graph.png")
    print(graph_table(view))
    say(f"Pinned: must keep all channels. This holds for --residual {residual}, {why}.")
    say(f"The same as a picture: {picture}")
    return folder


def usual_residual(source: Checkpoint) -> tuple[Residual, str]:
    """What a cut of a model takes for --residual where it is not given, and why, in words."""
    from yolo_slim.pruning.criteria.table import find

    known = source.train.get("residual")
    if known or source.train.get("st"):
        return known or find("bn").residual, "as this model was trained or cut before"
    return find("thinet").residual, (
        f"which {named('slim')} takes for this model, and {named('prune')} with data"
    )
