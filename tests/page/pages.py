"""Pages with everything on them, or next to nothing, made by code in place of runs."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from yolo_slim.page.model import (
    Box,
    ClassAccuracy,
    Curve,
    CurvePoint,
    Cut,
    Histogram,
    Layer,
    Made,
    Page,
    Picture,
    Scan,
    Series,
    Shown,
    Step,
    Tally,
    Training,
)

CLASSES = ("red cell", "white cell", "platelet")
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "a&b \"c\" 'd'",
    '</script><script>document.title="x"</script>',
    "{{ 7 * 7 }} --> <!-- \u2028 &lt;",
)
LABELS = ("before the cut", "after the cut", "finetuned")
HOLDERS = ("", "", "", "the floor of a layer", "tied by an add")


def drawn_picture(
    seed: int, classes: int, models: int, size: tuple[int, int] = (320, 240)
) -> Picture:
    """Round cells on a light ground, with boxes that each model finds more or less of.

    Args:
        seed: of the cells and of what is found.
        classes, models: how many there are.
        size: width and height, px.
    """
    rng, (width, height) = np.random.default_rng(seed), size
    image = np.full((height, width, 3), (214, 222, 232), np.uint8)
    truth = list[Box]()
    for _ in range(int(rng.integers(5, 11))):
        x, y, r = rng.integers(30, width - 30), rng.integers(30, height - 30), rng.integers(12, 28)
        label = int(rng.integers(classes))
        colour = ((120, 110, 205), (150, 70, 110), (190, 140, 90))[label % 3]
        cv2.circle(image, (int(x), int(y)), int(r), colour, -1, cv2.LINE_AA)
        cv2.circle(image, (int(x), int(y)), int(r) // 3, tuple(c + 40 for c in colour), -1)
        truth.append(Box(label, (float(x - r), float(y - r), float(x + r), float(y + r))))
    image = cv2.GaussianBlur(image, (3, 3), 0)
    found = []
    for model in range(models):
        boxes = [
            Box(box.label, shifted(box.corners, rng), float(rng.uniform(0.3, 0.98)), index)
            for index, box in enumerate(truth)
            if rng.random() < (0.9, 0.55, 0.85)[min(model, 2)]
        ]
        if rng.random() < 0.5:
            boxes.append(Box(int(rng.integers(classes)), (8.0, 9.0, 52.0, 44.0), 0.31))
        found.append(tuple(boxes))
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return Picture(
        f"images/val/cells_{seed:04}.jpg", width, height, jpeg, tuple(truth), tuple(found)
    )


def shifted(
    corners: tuple[float, float, float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """The corners, each some pixels away."""
    left, top, right, bottom = (round(float(c + rng.normal(0, 1.5)), 1) for c in corners)
    return left, top, right, bottom


def most_changed_first(pictures: list[Picture]) -> tuple[Picture, ...]:
    """Pictures sorted by how many true objects the first and the last model disagree on."""

    def changed(picture: Picture) -> int:
        first, last = ({b.match for b in boxes or ()} - {-1} for boxes in picture.found[::2])
        return len(first ^ last)

    return tuple(sorted(pictures, key=changed, reverse=True))


def sample_models(classes: int, models: int = 3, masks: bool = False) -> tuple[Shown, ...]:
    """A dense model, what is left of it, and the same finetuned."""
    rows = []
    costs = ((1_765_270, 1_020_000_000, 3_870_000), (688_400, 459_000_000, 1_600_000))
    for index in range(models):
        params, macs, size = costs[min(index, 1)]
        map_ = (0.600, 0.381, 0.595)[min(index, 2)]
        accuracies = tuple(
            None
            if classes > 3 and label == 3
            else ClassAccuracy(
                min(0.99, map_ + 0.3 - 0.07 * (label % 4)),
                map_ - 0.05 * (label % 4) + 0.009 * (label % 5 - 1) * (index == 2),
                700 >> label % 8,
            )
            for label in range(classes)
        )
        rows.append(
            Shown(
                label=LABELS[min(index, 2)],
                file=f"runs/slim/exp/{('dense', 'cut', 'best')[min(index, 2)]}.pt",
                params=params,
                macs=macs,
                bytes=size,
                ms=(10.4, 6.2, 6.18)[min(index, 2)],
                spread=0.3,
                map50=map_ + 0.29,
                map=map_,
                mask_map50=map_ + 0.2 if masks else None,
                mask_map=map_ - 0.1 if masks else None,
                classes=accuracies,
                tally=Tally(1040 - 90 * (index == 1), 40 * index, 9 * index, 88 - 7 * index, 1138),
            )
        )
    return tuple(rows)


def sample_layers(number: int = 57) -> tuple[Layer, ...]:
    """Layers of a C3 network, thinner towards its end; one Bottleneck is gone."""
    rng, layers = np.random.default_rng(1), []
    for index in range(number):
        channels = int(16 << min(4, index // 12))
        kept = 0 if index == 20 else max(8, int(channels * rng.uniform(0.2, 1)) // 8 * 8)
        note = "its Bottleneck is gone" if index == 20 else HOLDERS[index % 5]
        params = (channels * channels, kept * kept)
        layers.append(
            Layer(
                f"model.{index // 3}.{('conv', 'm.0.cv1', 'cv2')[index % 3]}.bn",
                channels,
                kept,
                note,
                params if index else None,
                (params[0] * 400, params[1] * 400) if index else None,
            )
        )
    return tuple(layers)


def sample_training(title: str, epochs: int = 24) -> Training:
    """Curves that rise and fall as those of a training do, with an epoch that was not measured."""
    t = np.linspace(0, 1, epochs)

    def curve(values: np.ndarray) -> tuple[float | None, ...]:
        return tuple(None if e == 5 else round(float(v), 4) for e, v in enumerate(values))

    rise = 1 - np.exp(-4 * t)
    return Training(
        title,
        tuple(range(1, epochs + 1)),
        {
            "mAP": (
                Series("mAP50", curve(0.88 * rise)),
                Series("mAP50-95", curve(0.6 * rise + 0.01 * np.sin(17 * t))),
            ),
            "|gamma|": (
                Series("median |gamma|", curve(1.1 - 0.8 * t)),
                Series("lowest tenth", curve(0.6 * np.exp(-5 * t))),
            ),
            "channels near zero": (Series("near zero", curve(62 * t**2), "%"),),
            "losses": (
                Series("box", curve(0.09 - 0.05 * rise)),
                Series("object", curve(0.12 - 0.06 * rise)),
                Series("class", curve(0.03 - 0.025 * rise)),
            ),
        },
        ((8.5, "back to epoch 7"), (16.5, "stronger: sr x 2")) if epochs > 16 else (),
    )


def sample_histograms(
    layers: tuple[Layer, ...], models: int, bins: int = 41
) -> tuple[Histogram, ...]:
    """Bell curves, the later models with fewer weights; a layer that is gone has none."""
    x = np.linspace(-3, 3, bins)
    rows = []
    for index, layer in enumerate(layers):
        counts = []
        for model in range(models):
            bell = np.exp(-((x - 0.1 * model) ** 2) * (1 + index % 3) / 2)
            size = layer.channels**2 if model == 0 else layer.kept**2
            counts.append(tuple(int(v) for v in size * bell / bell.sum()) if size else None)
        rows.append(Histogram(layer.name.replace("bn", "conv"), -0.6, 0.6, tuple(counts)))
    return tuple(rows)


def sample_scan(layers: tuple[Layer, ...]) -> Scan:
    """Losses that grow with the share; the first layers lose most, one gains."""
    rng, shares = np.random.default_rng(3), tuple(round(0.1 * n, 1) for n in range(1, 10))
    rows = []
    for index, layer in enumerate(layers):
        steep = rng.uniform(0, 0.6) / (1 + index / 6)
        values = [max(0.0, 0.6 - steep * share**2 + 0.004 * (index == 4)) for share in shares]
        rows.append(
            (layer.name, tuple(None if index == 7 and k > 6 else v for k, v in enumerate(values)))
        )
    return Scan("channels, mAP50-95 on 64 images", 0.6, shares, tuple(rows))


def sample_curve() -> Curve:
    """Dense at four sizes, cut models, and one that was trained on."""
    dense = [(10.4, 0.600, "320 px"), (7.1, 0.561, "256 px"), (4.6, 0.47, "192 px")]
    cut = [(8.4, 0.598, "0.8"), (7.0, 0.592, "0.6"), (6.2, 0.581, "0.45"), (4.4, 0.51, "0.3")]
    points = [CurvePoint("size", name, ms, m, m + 0.28) for ms, m, name in dense[1:]]
    points += [
        CurvePoint("cut", name, ms, m, m + 0.28, front=ms in (4.4, 8.4)) for ms, m, name in cut
    ]
    points.append(CurvePoint("dense", "320 px", 10.4, 0.6, 0.88, front=True))
    points.append(CurvePoint("trained", "0.45", 6.18, 0.595, 0.885, front=True))
    words = (
        "A cut model is better than a smaller image down to 4.4 ms; below it nothing was measured."
    )
    return Curve(tuple(points), words, "ms, ONNX Runtime, 2 threads")


def sample_made() -> tuple[Made, ...]:
    """Two runs: one on record, one of which only the folder is known."""
    command = "yolo-slim slim --weights best.pt --data cells.yaml --img 320 --macs 0.45 --epochs 60"
    options = {"weights": "best.pt", "data": "cells.yaml", "imgsz": "320", "macs": "0.45"}
    versions = {"yolo-slim": "0.1.0", "torch": "2.14.1", "yolov5": "7.0.14", "numpy": "2.4.6"}
    return (Made("runs/slim/exp", command, options, versions), Made("runs/train/exp", "", {}, {}))


def sample_page(
    *,
    classes: tuple[str, ...] = CLASSES,
    pictures: int = 6,
    layers: int = 57,
    cuts: int = 1,
    masks: bool = False,
) -> Page:
    """A page of a slim run on blood cells, as realistic as code can make it.

    Args:
        classes: their names.
        pictures: how many are shown.
        layers: of the network.
        cuts: each with a training after it.
        masks: of a segmentation model.
    """
    all_layers = sample_layers(layers)
    steps = (
        Step("cut", 0.52, 0.31),
        Step("constants", 0.61, 0.362),
        Step("weights", 0.58, 0.35, kept=False),
        Step("statistics", 0.67, 0.381),
    )
    text = (
        "45.0% of the MACs are left, of 45% asked for.",
        "Taylor over 205 images, multiples of 8.",
    )
    return Page(
        title="slim, runs/slim/exp",
        verdict=(
            "The model is 1.7x as fast with 45% of the MACs, and loses 0.5 points of mAP50-95: "
            "0.595 in place of 0.600."
        ),
        models=sample_models(len(classes), masks=masks),
        classes=classes,
        imgsz=320,
        looked=(87, 87),
        notes=("The first model was not timed on this machine.",),
        pictures=most_changed_first([drawn_picture(n, len(classes), 3) for n in range(pictures)]),
        cuts=tuple(
            Cut(f"cut {n + 1} of {cuts}", text, all_layers, (0.89, 0.6), steps) for n in range(cuts)
        ),
        trainings=tuple(sample_training(f"training {n + 1} of {cuts}") for n in range(cuts)),
        histograms=sample_histograms(all_layers, 3),
        scans=(sample_scan(all_layers),),
        curve=sample_curve(),
        ancestry=(
            ("yolov5n.pt, of COCO", "the first weights"),
            ("runs/train/exp/weights/best.pt", "trained 60 epochs on cells.yaml"),
            ("runs/slim/exp/cut.pt", "cut to 45% of the MACs"),
            ("runs/slim/exp/best.pt", "trained 60 epochs more"),
        ),
        made=sample_made(),
    )


def bare_page() -> Page:
    """A page of one model of which next to nothing is known."""
    model = Shown("as it is", "best.pt", 1_765_270, 1_020_000_000, 3_870_000)
    return Page(title="best.pt", verdict="Nothing was cut.", models=(model,))


def hostile_page() -> Page:
    """The sample with markup and code in every text that a user or a file may bring."""
    page = sample_page(classes=HOSTILE, pictures=3, layers=12)
    evil = HOSTILE[2] + HOSTILE[0]
    layers = tuple(replace(a, name=f"{a.name}{HOSTILE[0]}", note=evil) for a in page.cuts[0].layers)
    steps = tuple(replace(step, name=f"{step.name}{evil}") for step in page.cuts[0].steps)
    training = page.trainings[0]
    panels = {
        f"{title}{evil}": tuple(replace(s, name=f"{s.name}{evil}") for s in curves)
        for title, curves in training.panels.items()
    }
    marks = tuple((at, evil) for at, _ in training.marks)
    scan, curve = page.scans[0], page.curve
    assert curve is not None
    return replace(
        page,
        title=evil,
        verdict=f"Verdict {evil}",
        notes=(evil, *HOSTILE),
        models=tuple(replace(m, label=f"{m.label} {evil}", file=evil) for m in page.models),
        pictures=tuple(replace(p, name=f"{n}{evil}") for n, p in enumerate(page.pictures)),
        cuts=(replace(page.cuts[0], title=evil, text=(evil,), layers=layers, steps=steps),),
        trainings=(replace(training, title=evil, panels=panels, marks=marks),),
        histograms=tuple(replace(h, layer=f"{h.layer}{evil}") for h in page.histograms),
        scans=(replace(scan, title=evil, layers=tuple((f"{n}{evil}", v) for n, v in scan.layers)),),
        curve=replace(
            curve,
            words=evil,
            axis=evil,
            points=tuple(replace(p, label=f"{p.label}{evil}") for p in curve.points),
        ),
        ancestry=((evil, evil),),
        made=(Made(evil, evil, {evil: evil}, {evil: evil}),),
    )
