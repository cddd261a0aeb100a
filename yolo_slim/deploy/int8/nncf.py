"""An OpenVINO model in 8 bits, by NNCF; layers are named as in the ONNX graph that it comes from.

NNCF corrects biases by itself, and chooses ranges by the mean over images of the extremes of each.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from yolo_slim.deploy.int8.scope import Scope, scope_of
from yolo_slim.deploy.openvino import converted, saved
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.packages import imported
from yolo_slim.runtimes.openvino import library
from yolo_slim.runtimes.signal_stack import signal_stack_kept

PRESETS = {"mixed": "MIXED", "symmetric": "PERFORMANCE"}  # of activations; weights are symmetric


@dataclass
class NncfMaker:
    """OpenVINO: NNCF looks at the images anew for each file.

    Attributes:
        content: of the float ONNX file.
        scope: of its graph.
        images: batches as it takes them.
        about: stride and names.
        options: of the export.
    """

    content: bytes
    scope: Scope
    images: Sequence[np.ndarray]
    about: dict[str, Any]
    options: ExportOptions
    methods: tuple[str, ...] = field(default=tuple(PRESETS), init=False)

    def make(self, method: str, float_layers: Collection[str] = ()) -> dict[str, bytes]:
        """See `Maker`."""
        nncf = _nncf()
        apart = self.scope.apart(float_layers)
        # a conv with a bias becomes two operators: the sum has the name of the conv
        names = [name for node in apart for name in (node, f"{node}/WithoutBiases")]
        with _quiet(nncf), signal_stack_kept():
            model = nncf.quantize(
                converted(self.content),
                nncf.Dataset(_Shown(self.images)),
                preset=nncf.QuantizationPreset[PRESETS[method]],
                subset_size=len(self.images),
                ignored_scope=nncf.IgnoredScope(names=names, validate=False),
            )
        return saved(model, self.about, self.options)


def nncf_maker(
    content: bytes, images: Sequence[np.ndarray], about: dict[str, Any], options: ExportOptions
) -> NncfMaker:
    """A float ONNX file and calibration images for OpenVINO."""
    import onnx

    scope = scope_of(onnx.load_from_string(content))
    return NncfMaker(content, scope, images, about, options)


@dataclass(frozen=True)
class _Shown:
    """Images with a bar in place of NNCF's, which it draws on stdout."""

    images: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(tqdm(self.images, desc="calibrating (OpenVINO)", unit="batch", leave=False))


def _nncf() -> Any:
    """NNCF, without OpenVINO's reporter."""
    library()
    return imported("NNCF", "nncf")


@contextlib.contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """NNCF logs and draws bars on stdout.

    Its own set_log_level changes all handlers of its log, also those that others have hung there.
    """
    log = nncf.common.logging.nncf_logger
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)
