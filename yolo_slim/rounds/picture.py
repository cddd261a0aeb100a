"""slim.png: mAP over the epochs of a run, and what each cut did to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_slim.pictures import ACCENT, GREY, INK, new_figure, own_style, write_picture

PICTURE = "slim.png"


@own_style()
def plot_rounds(
    trainings: Sequence[Sequence[tuple[float, float]]],
    rounds: Sequence[Mapping[str, Any]],
    file: Path,
) -> Path:
    """Draw mAP over the epochs, training by training, and where the model was cut.

    No line leads from a training to the next one: there lies a cut.

    Args:
        trainings: of each, mAP50 and mAP50-95 epoch by epoch.
        rounds: `RoundReport.as_dict` of each cut.
        file: a .png to write.
    """
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    first, begun = rounds[0]["macs"][0], 0
    for number, training in enumerate(trainings):
        epochs = range(begun + 1, begun + len(training) + 1)
        names = (None, None) if number else ("mAP50", "mAP50-95")
        for index, (color, name) in enumerate(zip((INK, ACCENT), names, strict=True)):
            values = [point[index] for point in training]
            axes.plot(epochs, values, color=color, label=name, marker=".", ms=4)
        begun += len(training)
    dense = rounds[0]["accuracy"].get("before")
    if dense:
        axes.axhline(dense[1], color=ACCENT, lw=1, ls=":", label="mAP50-95 before the cuts")
    for number, (each, place) in enumerate(zip(rounds, places(trainings, rounds), strict=True)):
        axes.axvline(place, color=GREY, lw=1, ls="--")
        if each["recovered"]:
            label = None if number else "mAP50-95 as cut, and recovered"
            after = [each["accuracy"]["cut"][1], each["recovered"][1]]
            axes.plot([place] * 2, after, color=ACCENT, marker="o", ms=4, ls="", label=label)
        text = f"{each['macs'][1] / first:.0%} of\nthe MACs"
        over = axes.get_xaxis_transform()
        axes.text(place, 1.01, text, size=8, ha="center", va="bottom", transform=over)
    left = rounds[-1]["macs"][1] / first
    figure.suptitle(f"mAP on the validation images while {1 - left:.0%} of the MACs are cut")
    axes.set(xlabel="epoch", ylabel="mAP", ylim=(0, None), xlim=(0, begun + 1))
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return write_picture(figure, file)


def places(trainings: Sequence[Sequence[Any]], rounds: Sequence[Mapping[str, Any]]) -> list[float]:
    """Where each cut lies between the epochs; a training that stopped early counts as it was.

    The first cut comes before all trainings, or after the first one, and so on.
    """
    before = len(trainings) - len(rounds)  # trainings before the first cut, 0 or 1
    ends = [sum(len(each) for each in trainings[:n]) for n in range(len(trainings) + 1)]
    return [ends[before + number] + 0.5 for number in range(len(rounds))]
