"""The calibration methods, a row each, and what makes a file in 8 bits by them.

A `Maker` is a float model made ready: `make` gives a file's content by a method, with some of the
layers float. Layers have the same names for all runtimes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from yolo_slim.deploy.formats import Content
from yolo_slim.deploy.int8.qdq import in_8_bits, tensors_of
from yolo_slim.deploy.int8.ranges import METHODS, Range
from yolo_slim.deploy.int8.samples import Sample, sampled
from yolo_slim.deploy.int8.scope import Scope, scope_of


class Maker(Protocol):
    """What makes files of one format in 8 bits.

    Attributes:
        scope: of the graph.
        methods: names of its calibration methods.
    """

    scope: Scope
    methods: tuple[str, ...]

    def make(self, method: str, float_layers: Collection[str] = ()) -> Content:
        """The content of a file.

        Args:
            method: one of `methods`.
            float_layers: names of layers of the scope that stay float.
        """


@dataclass
class OnnxMaker:
    """ONNX Runtime: the graph is looked at once, each file is made of what was seen.

    Attributes:
        content: of the float file.
        scope: of its graph.
        samples: of each tensor that may be in 8 bits.
        narrow: weights in 7 bits, see `in_8_bits`.
    """

    content: bytes
    scope: Scope
    samples: dict[str, Sample]
    narrow: bool
    methods: tuple[str, ...] = field(default=tuple(METHODS), init=False)
    _ranges: dict[str, dict[str, Range]] = field(default_factory=dict, init=False)

    def make(self, method: str, float_layers: Collection[str] = ()) -> bytes:
        """See `Maker`."""
        if method not in self._ranges:
            self._ranges[method] = {
                name: METHODS[method](sample, name in self.scope.before_silu)
                for name, sample in self.samples.items()
            }
        means = {name: sample.means for name, sample in self.samples.items()}
        return in_8_bits(
            self.content,
            self.scope,
            self._ranges[method],
            means=means,
            float_layers=float_layers,
            narrow=self.narrow,
        )


def onnx_maker(
    content: bytes, images: Sequence[np.ndarray], *, narrow: bool, threads: int = 2
) -> OnnxMaker:
    """Look at a float ONNX file on calibration images."""
    import onnx

    model = onnx.load_from_string(content)
    scope = scope_of(model)
    samples = sampled(content, tensors_of(model.graph, scope), images, threads)
    return OnnxMaker(content, scope, samples, narrow)
