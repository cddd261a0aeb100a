"""A curve in words: where it bends, what a training may bring back, what a smaller image does.

What is said of trainings was measured by this project and is said as such; nothing is foretold of
the user's model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolo_slim.curve.bend import knee
from yolo_slim.curve.front import accuracy_at, beside_sizes
from yolo_slim.curve.points import CUT, SIZE, TRAINED, Curve, Point
from yolo_slim.text import counted

EVEN = 0.01  # mAP50-95: less apart is chance, with the images that people validate on
SOURCE = "docs/results.md"


@dataclass(frozen=True)
class Training:
    """What a training made of a cut model, in mAP50-95.

    Attributes:
        data: what was trained on.
        macs: share that the cut left.
        epochs: of each of the two trainings.
        dense: the model that was not cut ended at it.
        trained: the cut model ended at it.
    """

    data: str
    macs: float
    epochs: int
    dense: float
    trained: float


SLIM = (  # of docs/results.md, "Accuracy at the same cost": yolov5n, slim against dense
    Training("blood cells", 0.45, 60, 0.600, 0.595),  # means of the rows of BCCD, 320 px
    Training("playing cards", 0.45, 24, 0.479, 0.474),  # the rows of the cards, 320 px
    Training("circuit boards", 0.45, 12, 0.140, 0.140),  # in the text below DeepPCB, 160 px
)
LOWER = 7.4  # points that slim ended under uncut on surface textures, at the end of that section
RECOVERED = 0.454  # blood cells, half of the MACs: docs/results.md, "Recovery", All parts


def bend_of(curve: Curve) -> Point | None:
    """The cut at which the curve bends: a smaller share costs more than it did before.

    Where all that the cuts cost may be chance, there is none.
    """
    points = [*curve.of(CUT), curve.dense]
    if curve.dense.map - min(point.map for point in points) <= EVEN:
        return None
    index = knee([(point.share, point.map) for point in points])
    return None if index is None else points[index]


def paragraph(curve: Curve, *, same_images: bool = False) -> str:
    """The whole of it, the answer first.

    Args:
        curve: with all its times.
        same_images: the model is validated on the images that a cut looks at.
    """
    texts = [about_sizes(curve), about_slower(curve), about_bend(curve)]
    texts += [about_runs(curve), about_trainings(curve)]
    if same_images:
        texts.append("Training and validation images are the same here, which flatters the cuts.")
    return " ".join(filter(None, texts))


def unit(curve: Curve) -> str:
    """What the shares are of, in words."""
    return "the MACs" if curve.by == "macs" else "the time"


def about_bend(curve: Curve) -> str:
    """Where the curve of the cut models bends, if it does, and what the cuts there cost."""
    cuts, dense, of = curve.of(CUT), curve.dense, unit(curve)
    if not cuts:
        return ""
    bend, first, last = bend_of(curve), cuts[0], cuts[-1]
    if bend is not None:
        text = f"The curve bends at {bend.label} of {of}: mAP50-95 is {bend.map:.3f} there, "
        text += f"{dense.map:.3f} uncut"
        after = next((p for p in cuts if p.share < bend.share), None)
        return text + (f", and {after.map:.3f} at {after.label}." if after else ".")
    text = f"The curve has no bend: of mAP50-95 {dense.map:.3f} uncut, {first.label} of {of} "
    text += f"leaves {first.map:.3f}"
    if last is not first:
        text += f", {last.label} leaves {last.map:.3f}"
    return f"{text}."


def about_trainings(curve: Curve) -> str:
    """What a training brought back where this project measured it."""
    if not curve.of(CUT):
        return ""
    ends = [f"{row.trained:.3f} on {row.data} (uncut {row.dense:.3f})" for row in SLIM]
    text = "The cuts were recovered, not trained; a training usually brings most of it back. Where "
    text += f"this project measured it ({SOURCE}), yolov5n with {SLIM[0].macs:.0%} of its MACs "
    text += f"ended at {', '.join(ends)}; on blood cells a cut to half had {RECOVERED:.3f} before. "
    return f"{text}On surface textures it stayed {LOWER:.1f} points lower: data differ."


def about_slower(curve: Curve) -> str:
    """Which cuts are not faster than the model as it is."""
    slow = [point for point in curve.of(CUT) if point.time >= curve.dense.time]
    if not slow:
        return ""
    verb = "is" if len(slow) == 1 else "are"
    text = labels(slow)
    return f"{text[0].upper()}{text[1:]} {verb} not faster than the model as it is."


def about_sizes(curve: Curve) -> str:
    """Whether a smaller image keeps more than a cut in the same time; both as they are now."""
    pairs = beside_sizes(curve)
    if not pairs:
        has = curve.of(CUT) and curve.of(SIZE)
        return "No smaller image takes as long as a cut: they cannot be compared." if has else ""
    better = [point for point, other in pairs if other > point.map + EVEN]
    worse = [point for point, other in pairs if other < point.map - EVEN]
    text = "In the same time, and without a training, "
    if len(better) == len(pairs):
        text += "a smaller image keeps more than each cut"
    elif len(worse) == len(pairs):
        text += "each cut keeps more than a smaller image"
    elif not better and not worse:
        text += "a smaller image is about as good as a cut"
    else:
        cuts = curve.of(CUT)
        parts = [f"a smaller image keeps more than {labels(better, cuts)}"] if better else []
        keep = "keeps" if len(worse) == 1 else "keep"
        parts += [f"{labels(worse, cuts)} {keep} more than a smaller image"] if worse else []
        text += ", and ".join(parts)
    point, other = widest(pairs)
    text += (
        f": at {point.time:.1f} ms mAP50-95 is {point.map:.3f} by the cut to {point.label}, and "
    )
    return f"{text}{other:.3f} by a smaller image, read off between the sizes that were measured."


def labels(cuts: Sequence[Point], of: Sequence[Point] = ()) -> str:
    """The cuts to 0.9, 0.8.

    Args:
        cuts: by falling share.
        of: all cuts: where a row of three or more goes to their end, it is named by its start.
    """
    if len(cuts) > 2 and tuple(cuts) == tuple(of[-len(cuts) :]):
        return f"the cuts to {cuts[0].label} and less"
    noun = "the cut to" if len(cuts) == 1 else "the cuts to"
    return f"{noun} {', '.join(point.label for point in cuts)}"


def widest(pairs: Sequence[tuple[Point, float]]) -> tuple[Point, float]:
    """The point that a smaller image is farthest from."""
    return max(pairs, key=lambda pair: abs(pair[1] - pair[0].map))


def about_runs(curve: Curve) -> str:
    """Each finished run beside a smaller image of the same time."""
    sizes = [curve.dense, *curve.of(SIZE)]
    texts = []
    for point in curve.of(TRAINED):
        other = accuracy_at(sizes, point.time)
        text = f"{point.label} has {point.map:.3f} at {point.time:.1f} ms"
        texts.append(text if other is None else f"{text} (a smaller image {other:.3f})")
    if not texts:
        return ""
    return f"Of {counted(len(texts), 'finished run')}: {'; '.join(texts)}."
