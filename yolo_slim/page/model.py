"""What a page shows: plain values, which `build` takes from runs and `html` draws."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Box:
    """A box on a picture.

    Attributes:
        label: index of its class.
        corners: left, top, right, bottom, px of the picture as it is shown.
        score: confidence in [0, 1]; 1 of a true object.
        match: index of the true object that it meets (same class, IoU 0.5 or more); -1: none. Each
            true object is met by one box of a model at most.
    """

    label: int
    corners: tuple[float, float, float, float]
    score: float = 1.0
    match: int = -1


@dataclass(frozen=True)
class Picture:
    """A validation image with what is on it and what each model found.

    Attributes:
        name: of its file, relative to the data set.
        width, height: as it is shown, px.
        jpeg: the image of this size.
        truth: the true objects.
        found: the boxes of each model, in the order of `Page.models`; None: it was not run.
    """

    name: str
    width: int
    height: int
    jpeg: bytes
    truth: tuple[Box, ...]
    found: tuple[tuple[Box, ...] | None, ...]


@dataclass(frozen=True)
class Tally:
    """What a model found in all images that were looked at, not only in those that are shown.

    Attributes:
        hits: true objects that it found.
        lost, gained: of the true objects, those that the first model found and this one did not,
            and the other way round; both 0 for the first model.
        false: boxes that meet no true object.
        truths: true objects in all.
    """

    hits: int
    lost: int
    gained: int
    false: int
    truths: int


@dataclass(frozen=True)
class ClassAccuracy:
    """Average precision of a class: at IoU 0.50, and averaged over IoU 0.50 to 0.95.

    Attributes:
        objects: true ones of the class, in the images that were looked at.
    """

    ap50: float
    ap: float
    objects: int


@dataclass(frozen=True)
class Shown:
    """A model of the page: before a cut, after it, trained on.

    Attributes:
        label: in words, short: "dense", "cut", "finetuned", "slim"; with its run where several
            have one of that name: "cut, prune/exp2".
        file: its checkpoint.
        params: parameters.
        macs: of one image of `Page.imgsz` px.
        bytes: of the file.
        ms, spread: median and distance between the quartiles of its time in ONNX Runtime; None: it
            was not timed.
        map50, map: of all classes; None: it was not validated.
        mask_map50, mask_map: of masks, for a segmentation model.
        classes: class by class, in the order of `Page.classes`; None: no object of it is there.
        tally: None: it was not validated.
    """

    label: str
    file: str
    params: int
    macs: int
    bytes: int
    ms: float | None = None
    spread: float | None = None
    map50: float | None = None
    map: float | None = None
    mask_map50: float | None = None
    mask_map: float | None = None
    classes: tuple[ClassAccuracy | None, ...] = ()
    tally: Tally | None = None


@dataclass(frozen=True)
class Layer:
    """A BatchNorm before and after a cut, with what its conv takes.

    Attributes:
        name: of the BN, such as "model.2.cv1.bn".
        channels, kept: dense and left; kept 0: its Bottleneck is gone.
        note: what held it, as in report.json; "not chosen" where it keeps all for no reason of its
            own; "" for one that lost channels.
        params, macs: of its conv, (before, after); None: no conv before it.
    """

    name: str
    channels: int
    kept: int
    note: str
    params: tuple[int, int] | None = None
    macs: tuple[int, int] | None = None


@dataclass(frozen=True)
class Step:
    """mAP after a part of the recovery: "cut", "constants", "weights" ...

    Attributes:
        kept: False: the part was undone, since mAP fell.
    """

    name: str
    map50: float
    map: float
    kept: bool = True


@dataclass(frozen=True)
class Cut:
    """A cut: what it was asked for, and what came of it.

    Attributes:
        title: such as "cut 1 of 2".
        text: lines in words: target and reached, criterion, rounding, calibration, parity.
        layers: in the order of the model.
        before: mAP50 and mAP50-95 before it; None: not measured.
        steps: as cut, and after each part of the recovery; empty: not measured.
    """

    title: str
    text: tuple[str, ...]
    layers: tuple[Layer, ...]
    before: tuple[float, float] | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Series:
    """A curve over the epochs of a training.

    Attributes:
        name: in words: "mAP50-95", "median |gamma|", "near zero", "box loss".
        unit: "" or "%"; curves of one panel share an axis.
        values: one an epoch; None: not measured.
    """

    name: str
    values: tuple[float | None, ...]
    unit: str = ""


@dataclass(frozen=True)
class Training:
    """How a training went.

    Attributes:
        title: such as "training 1 of 2, 24 epochs" or "sparse training".
        epochs: number of each, from 1.
        panels: title of a panel to its curves: "mAP", "|gamma|", "channels near zero", "losses".
        marks: moments: (between which epochs: 3.5 is between 3 and 4, what it is).
    """

    title: str
    epochs: tuple[int, ...]
    panels: dict[str, tuple[Series, ...]]
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Histogram:
    """How the weights of a conv are spread, model by model, over the same bins.

    Attributes:
        layer: name of the conv, such as "model.2.cv1.conv".
        low, high: the ends of the bins, which are equally wide.
        counts: of each model, in the order of `Page.models`; None: the layer is gone from it.
    """

    layer: str
    low: float
    high: float
    counts: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Scan:
    """A sensitivity scan: mAP50-95 with each layer cut alone.

    Attributes:
        title: what was cut, "channels" or "weights", and on what it was measured.
        dense: mAP50-95 of the model as it is.
        shares: that were cut of a layer, in (0, 1).
        layers: name of each layer and mAP50-95 at each share; None: not measured.
    """

    title: str
    dense: float
    shares: tuple[float, ...]
    layers: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class CurvePoint:
    """A point of accuracy against time.

    Attributes:
        family: "dense", "cut", "size" (the dense model at a smaller image size), "trained".
        label: short, as it stands beside the point: "0.6", "256 px".
        front: no other point is both faster and better.
    """

    family: str
    label: str
    ms: float
    map: float
    map50: float
    front: bool = False


@dataclass(frozen=True)
class Curve:
    """What `yolo-slim curve` measured.

    Attributes:
        points: all of them.
        words: what they say, a paragraph.
        axis: what the time is: "ms, ONNX Runtime, 2 threads".
    """

    points: tuple[CurvePoint, ...]
    words: str
    axis: str


@dataclass(frozen=True)
class Made:
    """How a run was made.

    Attributes:
        run: its folder.
        command: the command line that makes it again; "" where it is not on record.
        options: name to value, as they were settled.
        versions: package to version, of the run; empty where they are not on record.
    """

    run: str
    command: str
    options: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Page:
    """All that a page shows. What is empty or None is left out of it, and the page says why if the
    reader would miss it (`notes`).

    Attributes:
        title: such as "slim, runs/slim/exp".
        verdict: in one sentence.
        notes: what else a reader must know, a sentence each.
        models: the first is the one before any cut, the last one the result.
        classes: names.
        imgsz: px.
        looked: images of the validation split that were looked at, and how many there are.
        threshold: boxes of at least this confidence are shown and counted.
        pictures: most lost and found first.
        cuts, trainings, histograms, scans: in the order of the road.
        ancestry: each step of the way from the first model: (what, from or with what).
        made: how each run was made.
    """

    title: str
    verdict: str
    models: tuple[Shown, ...]
    classes: tuple[str, ...] = ()
    imgsz: int = 640
    looked: tuple[int, int] = (0, 0)
    threshold: float = 0.25
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    cuts: tuple[Cut, ...] = ()
    trainings: tuple[Training, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    scans: tuple[Scan, ...] = ()
    curve: Curve | None = None
    ancestry: tuple[tuple[str, str], ...] = ()
    made: tuple[Made, ...] = field(default=())
