"""The table of a device: what `profile_device.py` measured, read and looked up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from yolo_slim.as_called import named
from yolo_slim.device.layers import Exported
from yolo_slim.device.profile_device import BLOCKS, MOST_THREADS, RUNTIMES, TABLE
from yolo_slim.errors import InputError

DISTURBED = 1.1  # what takes longer than this times a wider conv was disturbed
LIKELY = 1e-3  # how much it counts if single layers take longer, or less, in a whole network
ROUGH = 0.08  # the same, of a table that is told to be rough
OFF = 0.025  # by which what the layers of a whole network add up to may be off
WIDEST, LONGEST = 65536, 3600.0  # channels or px, and seconds, beyond any model
EXPECTED = "a table that `yolo-slim profile` or profile_device.py wrote"


@dataclass(frozen=True)
class DeviceTable:
    """Times of single layers on a device.

    Attributes:
        layers: name, kind, inputs and outputs of each conv of the model that it is for.
        imgsz: side of the image, px.
        runtime, version, threads, processor: what was measured on.
        block: channels that the runtime works on at a time, by single convs.
        probes: "inputs", "outputs": [widths, seconds] of convs at many widths.
        odd: "inputs", "outputs": times that a conv takes longer where they are no multiple of it.
        convs: kind to "inputs", "outputs" (widths) and "seconds" (inputs, outputs).
        ops: kind to "channels" and "seconds".
        networks: name of a whole network to "seconds", and to the convs and the rest it has.
    """

    layers: list[Any] = field(repr=False)
    imgsz: int
    runtime: str
    version: str
    threads: int
    processor: str
    block: int
    odd: dict[str, float]
    probes: dict[str, Any] = field(repr=False)
    convs: dict[str, dict[str, Any]] = field(repr=False)
    ops: dict[str, dict[str, Any]] = field(repr=False)
    networks: dict[str, dict[str, Any]] = field(repr=False)

    def check(self, exported: Exported, imgsz: int) -> None:
        """See that it has all layers of a model: of the one it is for, or of a cut of that.

        Raises:
            InputError: it is for another model, or another image size.
        """
        if imgsz != self.imgsz:
            raise InputError("--device", f"a table for {self.imgsz} px", f"one for {imgsz} px")
        there = {name: (key, i, o) for name, key, i, o in self.layers}
        for conv in exported.convs.values():
            key, *most = there.get(conv.name, ("", 0, 0))
            here = [conv.inputs, conv.outputs]
            told = f"{most[0]} to {most[1]}"
            if key == conv.key and conv.name in exported.ends and here[1] != most[1]:
                got = f"a table for other classes ({conv.name}: {told}; here to {here[1]})"
                expected = f"one by `{named('profile')}` with the same --data"
                raise InputError("--device", got, expected)
            if key != conv.key or here[0] > most[0] or here[1] > most[1]:
                told = f"{conv.name}: {f'{key}, {told}' if key else 'not there'}"
                got = f"a table of another model ({told}; here {conv.key}, {here[0]} to {here[1]})"
                raise InputError(
                    "--device", got, "one of this model, or of that which it was cut from"
                )
        for op in exported.ops:
            if op.key not in self.ops:
                raise InputError(
                    "--device", f"a table of another model (no {op.key})", "one of this"
                )

    @property
    def step(self) -> int:
        """What layers should keep a multiple of, in channels.

        The block of single convs, or more, where whole networks in multiples of that do not take
        what their layers do: between layers a runtime may change the layout.
        """
        return self._fit[0]

    @property
    def scales(self) -> np.ndarray:
        """What a second of convs, and of the rest, is in a whole network, and seconds besides.

        Fitted to the whole networks: single layers do not tell what lies between them. The seconds
        besides may be less than 0, where a large network pays for its caches.
        """
        return self._fit[1]

    @property
    def rough(self) -> str:
        """A sentence if the table says little: whole networks do not take what layers add up to."""
        if self._fit[2] < ROUGH:
            return ""
        text = f"This table is rough: whole networks are up to {self._fit[2]:.0%} from what their "
        return text + "layers add up to. Measure it again on an idle machine."

    @cached_property
    def _fit(self) -> tuple[int, np.ndarray, float]:
        steps = sorted({n["step"] for n in self.networks.values() if n["step"] >= self.block})
        for step in steps:
            wide = [n for n in self.networks.values() if not n["step"] or n["step"] >= step]
            scales, off = self._fitted(wide)
            if off < OFF or step == steps[-1]:
                return step, scales, off
        return max(self.block, 1), *self._fitted(list(self.networks.values()))

    def _fitted(self, networks: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, float]:
        """The scales that suit some networks best, and the largest relative error."""
        rows = []
        for network in networks:
            of_convs = sum(self.conv(key)[i, o] for key, i, o in network["convs"])
            of_ops = sum(self.op(key, count)[count] for key, count in network["ops"])
            rows.append([of_convs, of_ops, networks[0]["seconds"]])
        wanted = np.array([network["seconds"] for network in networks])
        design = np.array(rows) / wanted[:, None]  # relative errors count
        likely = np.sqrt(LIKELY) * np.eye(3)  # both scales near 1, nothing besides
        aim = np.concatenate([np.ones(len(wanted)), likely @ [1, 1, 0]])
        least = [0, 0, -np.inf]
        fit = lsq_linear(np.concatenate([design, likely]), aim, (least, np.inf)).x
        return fit * [1, 1, networks[0]["seconds"]], float(np.abs(design @ fit - 1).max())

    def conv(self, key: str) -> np.ndarray:
        """(inputs + 1, outputs + 1) seconds of a conv at each width, up to the largest measured."""
        return self._curves[key]

    @cached_property
    def _curves(self) -> dict[str, np.ndarray]:
        return {key: self._curve(key) for key in self.convs}

    def _curve(self, key: str) -> np.ndarray:
        """(inputs + 1, outputs + 1) seconds of a conv at each width, up to the largest measured.

        Between two widths that were measured the time follows a straight line over the blocks that
        are begun; a width that is no multiple costs what the table says of such.
        """
        row = self.convs[key]
        inputs, outputs = np.array(row["inputs"]), np.array(row["outputs"])
        ins, extra_in = self._begun(inputs, "inputs")
        outs, extra_out = self._begun(outputs, "outputs")
        # A wider conv takes no less time: between what the narrower ones and the wider ones say.
        above = below = np.array(row["seconds"])
        for axis in (0, 1):
            above = np.maximum.accumulate(above, axis)
            below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis), axis)
        # One that was disturbed takes longer, never less: it may move the others by little alone.
        seconds = (np.minimum(above, DISTURBED * below) + below) / 2
        by_out = np.stack([np.interp(outs, outputs, values) for values in seconds])
        times = np.stack([np.interp(ins, inputs, column) for column in by_out.T], 1)
        result: np.ndarray = times * extra_in[:, None] * extra_out
        return result

    def op(self, key: str, most: int) -> np.ndarray:
        """(most + 1,) seconds of what is no conv, by channels; constant where no cut changes it."""
        row = self.ops[key]
        channels, seconds = row["channels"], row["seconds"]
        if len(channels) < 2:
            return np.full(most + 1, seconds[0])
        slope = max((seconds[0] - seconds[1]) / (channels[0] - channels[1]), 0.0)
        result: np.ndarray = seconds[0] + slope * (np.arange(most + 1) - channels[0])
        return np.maximum(result, 0.0)

    def _begun(self, measured: np.ndarray, title: str) -> tuple[np.ndarray, np.ndarray]:
        """For each width up to the largest: the blocks begun, in channels, and its factor."""
        width, most = np.arange(measured.max() + 1), int(measured.max())
        begun = np.minimum(-(-width // self.block) * self.block, most)
        odd = (width % self.block > 0) & (width != most) & (width > self.block)
        return begun, np.where(odd, self.odd[title], 1.0)


def read_table(path: str | Path) -> DeviceTable:
    """Read device.json.

    Raises:
        InputError: no such file, or no complete table.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file", EXPECTED)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(path, "damaged, or not written to its end", EXPECTED) from None
    if not isinstance(content, dict) or content.pop("format", None) != TABLE:
        raise InputError(path, "no table of a device", EXPECTED)
    try:
        table = DeviceTable(**content)
        _check_figures(table)
    except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError, AssertionError):
        got = "a table with parts missing, or figures that are none"
        raise InputError(path, got, EXPECTED) from None
    return table


def _check_figures(table: DeviceTable) -> None:
    """Look up all that a cut looks up; any error says that something is missing."""
    for number in (table.imgsz, table.threads):
        assert isinstance(number, int) and 1 <= number <= WIDEST
    assert table.block in BLOCKS and table.threads <= MOST_THREADS and table.runtime in RUNTIMES
    assert isinstance(table.processor, str) and isinstance(table.version, str)
    assert isinstance(table.probes, dict)
    for key, row in table.convs.items():
        for counts in (row["inputs"], row["outputs"]):
            assert counts == sorted(set(counts)) and counts[0] >= 1 and counts[-1] <= WIDEST
        assert np.min(row["seconds"]) > 0 and np.max(row["seconds"]) < LONGEST
        assert np.isfinite(table.conv(key)).all()
    for key, row in table.ops.items():
        assert np.isfinite(table.op(key, 1)).all() and min(row["seconds"]) >= 0
    for _, key, inputs, outputs in table.layers:
        assert table.conv(key)[inputs, outputs] >= 0
    for network in table.networks.values():
        assert 0 < network["seconds"] < LONGEST and network["step"] in (0, *BLOCKS)
    assert table.networks
    assert np.isfinite(table.scales).all()
