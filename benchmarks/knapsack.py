"""How far the cut by a device's table is from the best one: our search beside HiGHS, a MILP solver.

The knapsack of `timed_masks` is written as a mixed-integer linear program: which number of groups
each stack keeps, and for each layer which pair of inputs and outputs that makes. HiGHS gives the
best solution that it comes to in --seconds, and a bound that no solution can pass. Compared is the
worth that is lost, 0 for the model as it is.

    python benchmarks/knapsack.py --weights yolov5n.pt --device device.json --shares 0.8 0.6
"""

from __future__ import annotations

import time

import numpy as np
from _common import parser, save_json
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from yolo_slim import load
from yolo_slim.channels.rules import channel_graph
from yolo_slim.device.table import read_table
from yolo_slim.pruning.budget.knapsack import Knapsack, Term
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.timed import knapsack_of
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.latency import LatencyCut
from yolo_slim.text import table


class Program:
    """Variables and rows of a linear program, as they come."""

    def __init__(self) -> None:
        self.count, self.cells, self.low, self.high = 0, [], [], []

    def variables(self, number: int) -> np.ndarray:
        self.count += number
        return np.arange(self.count - number, self.count)

    def row(self, places: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
        self.cells += [(len(self.low), p, v) for p, v in zip(places, values, strict=True)]
        self.low.append(low)
        self.high.append(high)


def solve(knapsack: Knapsack, most: float, seconds: float) -> tuple[float, float]:
    """The worth of the best solution that HiGHS comes to, and the bound on any."""
    program = Program()
    chosen = [program.variables(len(row)) for row in knapsack.options]
    for places in chosen:
        program.row(places, np.ones(len(places)), 1, 1)
    spent_at, spent = [], []

    def side(term: Term, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Variables of the totals of a side, one of which is 1, and these totals."""
        weight = term.weights[axis]
        stacks = [(s, int(w)) for s, w in zip(term.stacks, weight, strict=True) if w]
        if not stacks:
            one = program.variables(1)
            program.row(one, np.ones(1), 1, 1)
            return one, term.base[axis : axis + 1]
        if len(stacks) == 1:
            stack, w = stacks[0]
            return chosen[stack], term.base[axis] + w * knapsack.options[stack]
        totals = {int(term.base[axis])}
        for stack, w in stacks:
            totals = {t + w * int(k) for t in totals for k in knapsack.options[stack]}
        values = np.array(sorted(totals))
        level = program.variables(len(values))
        program.row(level, np.ones(len(level)), 1, 1)
        places = np.concatenate([level, *(chosen[s] for s, _ in stacks)])
        counts = [-float(w) * knapsack.options[s] for s, w in stacks]
        base = float(term.base[axis])
        program.row(places, np.concatenate([values.astype(float), *counts]), base, base)
        return level, values

    for term in knapsack.terms:
        (rows, ins), (columns, outs) = side(term, 0), side(term, 1)
        pair = program.variables(len(rows) * len(columns)).reshape(len(rows), len(columns))
        for index, place in enumerate(rows):
            both = np.append(pair[index], place)
            program.row(both, np.append(np.ones(len(columns)), -1.0), 0, 0)
        for index, place in enumerate(columns):
            both = np.append(pair[:, index], place)
            program.row(both, np.append(np.ones(len(rows)), -1.0), 0, 0)
        spent_at.append(pair.ravel())
        spent.append(term.seconds[np.ix_(ins, outs)].ravel())
    scale = most  # seconds are small numbers
    program.row(
        np.concatenate(spent_at),
        np.concatenate(spent) / scale,
        -np.inf,
        (most - knapsack.fixed) / scale,
    )
    cost = np.zeros(program.count)
    unit = max(float(np.ptp(worth)) for worth in knapsack.worth) or 1.0
    for places, worth in zip(chosen, knapsack.worth, strict=True):
        cost[places] = -worth / unit
    whole = np.zeros(program.count)
    whole[np.concatenate(chosen)] = 1
    at, of, values = map(np.array, zip(*program.cells, strict=True))
    matrix = coo_array((values, (at, of)), shape=(len(program.low), program.count)).tocsr()
    found = milp(
        cost,
        constraints=LinearConstraint(matrix, program.low, program.high),
        bounds=Bounds(0, 1),
        integrality=whole,
        options={"time_limit": seconds, "mip_rel_gap": 1e-3},
    )
    best = -unit * found.fun if found.fun is not None else -np.inf
    return best, -unit * found.mip_dual_bound


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--weights", required=True, help="checkpoint")
    args.add_argument("--device", required=True, help="a table for it")
    args.add_argument("--criterion", default="l2", help="one that needs no images")
    args.add_argument("--spread", default="uniform", help="global or uniform")
    args.add_argument("--shares", type=float, nargs="+", default=[0.9, 0.8, 0.7, 0.6, 0.5])
    args.add_argument("--seconds", type=float, default=60, help="of HiGHS, for each share")
    opt = args.parse_args()
    model, device = load(opt.weights).model, read_table(opt.device)
    graph = channel_graph(model, "inner")
    latency = LatencyCut(model, graph, device, device.imgsz)
    counted, scores = MaskCost(model, graph, device.imgsz), score(model, graph, opt.criterion)
    _, knapsack = knapsack_of(scores, latency.timed, counted, spread=opt.spread)
    rows, found = [], []
    for share in opt.shares:
        start = time.perf_counter()
        most = share * latency.timed.dense
        kept = knapsack.solve(most)
        if kept is None:
            continue
        ours = time.perf_counter() - start
        best, bound = solve(knapsack, most, opt.seconds)
        lost = [-knapsack.total(kept), -best, -bound]
        found.append({"share": share, "ours": lost[0], "highs": lost[1], "bound": lost[2]})
        rows.append([f"{share:g}", f"{ours:.2f} s", *(f"{x:.4f}" for x in lost)])
        print(rows[-1], flush=True)
    head = ["share", "our search takes", "worth lost, ours", "HiGHS", "at least"]
    print(table(head, rows))
    save_json(opt.json, rows=found, seconds=opt.seconds)


if __name__ == "__main__":
    main()
