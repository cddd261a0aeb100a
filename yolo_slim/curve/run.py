"""A run of `curve`: all points of a plan, then their times, through interruptions.

Each point is a line of curve.csv as soon as it is measured, and an ONNX file in the folder
`work`, where it waits to be timed. An interruption loses what is being measured at that moment.
When all is timed, the file is written anew, and that folder goes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from yolo_slim.curve.job import WORK, Job, Task, network_of
from yolo_slim.curve.points import (
    DENSE,
    TRAINED,
    Curve,
    Point,
    layout,
    ordered,
    read_curve,
    write_curve,
)
from yolo_slim.curve.timing import timed
from yolo_slim.growing_csv import line
from yolo_slim.runs import CURVE_POINTS
from yolo_slim.workers import workers

TIMING = 0.5  # what the timing takes, as a share of a cut
BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left{postfix}"


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        tasks: the points; the first is the dense model.
        settings: what goes into the head of the file; all of SETTINGS.
        job: what a worker needs.
        threads: of ONNX Runtime.
    """

    tasks: Sequence[Task]
    settings: Mapping[str, str]
    job: Job
    threads: int


def run_curve(plan: Plan, folder: Path, processes: int = 1) -> tuple[Curve, str]:
    """Measure all points of a plan, but for those that its folder has already.

    Args:
        plan: what to measure.
        folder: of the run.
        processes: see `workers`.

    Returns:
        The curve, and a sentence if its times say little, else "".

    Raises:
        InputError: the folder is of another plan; the dense model finds nothing; what `workers`
            raises.
    """
    plan, settings = replace(plan, job=replace(plan.job, folder=folder)), plan.settings
    path, rough = folder / CURVE_POINTS, ""
    points = resumed(path, settings, len(plan.tasks)) if path.exists() else []
    done = {point.key for point in points}
    if len(done) < len(plan.tasks) or not all(point.latency is not None for point in points):
        todo = [task for task in plan.tasks if task.key not in done]
        whole = sum(task.effort for task in plan.tasks) + TIMING
        begun = whole - sum(task.effort for task in todo) - TIMING
        look = {"desc": "curve", "bar_format": BAR, "smoothing": 0, "delay": 0.01}
        with tqdm(total=whole, initial=begun, **look) as bar:
            points += measure_missing(plan, path, points, todo, processes, bar)
            bar.set_postfix_str("timing all of them in turns")
            measured, rough = timed(in_order(plan, points), folder, plan.threads)
            points = list(measured)
            bar.update(TIMING)
        write_curve(path, settings, points)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return Curve(path, settings, tuple(points)), rough


def measure_missing(
    plan: Plan, path: Path, points: Sequence[Point], todo: Sequence[Task], processes: int, bar: tqdm
) -> list[Point]:
    """The points that are missing, written as they come; the dense model is the first of all."""
    new = list[Point]()
    if not todo:
        return new
    effort = {task.key: task.effort for task in todo}
    with workers(plan.job, min(processes, len(todo))) as measure:
        if todo[0].family == DENSE:
            new += measure(todo[:1])
            bar.update(effort[new[0].key])
        rest = todo[len(new) :]
        write_curve(path, plan.settings, in_order(plan, [*points, *new]))
        with path.open("a", encoding="utf-8") as file:
            for point in measure(rest):
                file.write(line(point))
                file.flush()
                new.append(point)
                bar.update(effort[point.key])
    return new


def in_order(plan: Plan, points: Sequence[Point]) -> tuple[Point, ...]:
    """See `ordered`."""
    return ordered(points, [task.label for task in plan.tasks if task.family == TRAINED])


def resumed(path: Path, settings: Mapping[str, str], total: int) -> list[Point]:
    """The points of a file that stand, if it has the settings that are wanted.

    All points are timed in one run: where one is missing, those stand whose ONNX file is there.

    Args:
        path: curve.csv.
        settings: that are wanted.
        total: how many points there are in the end.

    Raises:
        InputError: it has others.
    """
    curve = read_curve(path)
    layout().check_same(path, curve.settings, settings)
    if curve.timed and len(curve.points) == total:
        return list(curve.points)
    files = {point.key: network_of(path.parent, point.key) for point in curve.points}
    return [
        point
        for point in curve.points
        if files[point.key].is_file() and files[point.key].stat().st_size == point.bytes
    ]
