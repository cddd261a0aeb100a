"""A share of the latency as the target: by the table of a device, measured where that is here.

What the table predicts is off by a few per cent. Where the table is of this machine, the cut is
measured beside the model, and made again with the difference allowed for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from yolo_slim.as_called import named
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.ncnn import to_ncnn
from yolo_slim.device import profile_device
from yolo_slim.device.layers import Exported
from yolo_slim.device.table import DeviceTable
from yolo_slim.errors import InputError
from yolo_slim.measure.latency import Latency, interleaved, warning_of
from yolo_slim.pruning.budget.timed import Timed
from yolo_slim.pruning.masks import Masks, keep_vector
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.times import LayerTime, Times

SLACK = 0.02  # of the wanted share: a cut that is nearer is not made again
TRIES = 4
REPEATS = 30


class LatencyCut:
    """Cuts of a model to shares of its time.

    Args:
        model: a detector; left untouched.
        graph: its channel graph.
        table: of the device; made for this model, or for one that it is a cut of.
        imgsz: side of the image, px.

    Raises:
        InputError: the table is of another model or image size.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, table: DeviceTable, imgsz: int):
        self.model, self.graph, self.table, self.imgsz = model, graph, table, imgsz
        self.dense = to_onnx(model, imgsz=imgsz)
        exported = Exported(self.dense, graph)
        table.check(exported, imgsz)
        self.timed = Timed(exported, graph, table)

    @property
    def here(self) -> bool:
        """Whether the table is of this machine, and its runtime is installed."""
        same = self.table.processor == profile_device.processor()
        return same and importlib.util.find_spec(self.table.runtime) is not None

    def cut(self, masks_at: Callable[[float], Masks], wanted: float) -> tuple[Masks, Times]:
        """Masks that leave a share of the time, and the time.

        Args:
            masks_at: predicted share to masks; raises InputError where it cannot be reached.
            wanted: share of the time.

        Raises:
            InputError: the share cannot be reached; the message says what can.
        """
        masks = masks_at(wanted)
        times = self.times(masks)
        if wanted == 1 or not self.here:
            return masks, times
        aim, best = wanted, (masks, times)
        with tqdm(total=TRIES, desc="measuring the cut", unit="cut", leave=False) as bar:
            for number in range(TRIES):
                measured, again = self.measured(masks), f"{named('bench')} measures again."
                medians = (measured["dense"].median, measured["pruned"].median)
                times = replace(times, measured=medians, rough=warning_of(measured, again))
                bar.set_postfix_str(f"{times.share:.2f} of the time")
                bar.update()
                off = abs(times.share - wanted)
                if number == 0 or off < abs(best[1].share - wanted):
                    best = masks, times
                if off <= SLACK * wanted:
                    break
                aim = float(np.clip(aim * wanted / times.share, 0.01, 1.0))
                try:
                    masks = masks_at(aim)
                except InputError:  # no less can be left
                    break
                times = self.times(masks)
        return best

    def times(self, masks: Masks) -> Times:
        """What the table says of a cut."""
        keep, table = keep_vector(self.graph, masks), self.table
        every, layers = np.ones_like(keep), dict[str, np.ndarray]()
        for row in self.timed.rows:
            name = row.name.split(" of ")[0]
            both = np.array([row.at(every), row.at(keep)])
            layers[name] = layers.get(name, 0.0) + 1e3 * both
        layers["decoding"] = np.full(2, 1e3 * self.timed.decoding)
        layers["besides"] = np.full(2, 1e3 * (self.timed.fixed - self.timed.decoding))
        predicted = 1e3 * np.array([self.timed.dense, self.timed.seconds(keep)])
        return Times(
            f"{table.runtime} {table.version}",
            table.processor,
            table.threads,
            self.imgsz,
            table.step,
            (float(predicted[0]), float(predicted[1])),
            None,
            tuple(LayerTime(name, *map(float, both)) for name, both in layers.items()),
        )

    def measured(self, masks: Masks) -> dict[str, Latency]:
        """The model, "dense", and its cut, "pruned", in turns, by the runtime of the table."""
        pruned = to_onnx(rebuild(self.model, self.graph, masks), imgsz=self.imgsz)
        runtime = profile_device.RUNTIMES[self.table.runtime](self.table.threads)
        make: Any = to_ncnn if self.table.runtime == "ncnn" else lambda content: content
        calls = {n: runtime.call(make(c)) for n, c in (("dense", self.dense), ("pruned", pruned))}
        return interleaved(calls, repeats=REPEATS)
