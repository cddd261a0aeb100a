"""What YOLOv5's loader of exported files, DetectMultiBackend, lacks to open those of today."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from yolo_slim.host.classes import common
from yolo_slim.host.compat import imported_as
from yolo_slim.runtimes import opened, runtime_of
from yolo_slim.runtimes.network import unheard
from yolo_slim.runtimes.openvino import library
from yolo_slim.runtimes.signal_stack import signal_stack_kept


@contextmanager
def loadable(file: str | Path) -> Iterator[dict[str, Any]]:
    """In the block YOLOv5's loader opens an exported file.

    Yields:
        What has to stand in the place of names of the host's val and detect.
    """
    row = runtime_of(file)
    name = row.name if row else ""
    made = {"OpenVINO": _openvino_runtime, "LiteRT": _tflite_runtime}
    with imported_as(made[name]() if name in made else {}):
        yield {"DetectMultiBackend": NcnnBackend} if name == "ncnn" else {}


def _openvino_runtime() -> dict[str, ModuleType]:
    """The host imports openvino.runtime, which OpenVINO 2026 removed (2025 warns).

    Its names are those of openvino itself. Core computes in float32 here: on CPUs with AMX it takes
    bfloat16 by itself, and mAP is then not the checkpoint's. Can go when the host imports openvino
    and asks for a precision.
    """
    openvino: Any = library()

    class Core(openvino.Core):  # type: ignore[misc,name-defined]
        """OpenVINO's, in float32."""

        def compile_model(self, model: Any, device_name: str = "CPU") -> Any:
            """As the host calls it."""
            options = {"INFERENCE_PRECISION_HINT": "f32"}
            with signal_stack_kept():
                return super().compile_model(model, device_name, options)

    module: Any = ModuleType("openvino.runtime")
    module.Core, module.Layout, module.get_batch = Core, openvino.Layout, openvino.get_batch
    return {"openvino.runtime": module}


def _tflite_runtime() -> dict[str, ModuleType]:
    """The host imports tflite_runtime, whose last release (2.14, 2023) is for Python 3.11 at most.

    LiteRT (ai-edge-litert) is its successor, with the same names. Can go when the host imports it.
    """
    from ai_edge_litert import interpreter

    def quiet_interpreter(*args: Any, **kwargs: Any) -> Any:
        with unheard():  # it tells of its delegate
            return interpreter.Interpreter(*args, **kwargs)

    module: Any = ModuleType("tflite_runtime.interpreter")
    module.Interpreter, module.load_delegate = quiet_interpreter, interpreter.load_delegate
    package = ModuleType("tflite_runtime")
    return {"tflite_runtime": package, "tflite_runtime.interpreter": module}


class NcnnBackend(common.DetectMultiBackend):  # type: ignore[misc]
    """YOLOv5's loader for folders of ncnn, which it does not know.

    Can go when the host opens them.
    """

    def __init__(
        self,
        weights: Any,
        device: Any = "cpu",
        dnn: bool = False,
        data: Any = None,
        fp16: bool = False,
    ) -> None:
        """Open a folder; it runs on the CPU in float32."""
        torch.nn.Module.__init__(self)
        file = weights[0] if isinstance(weights, list) else weights
        self.network = opened(file, torch.get_num_threads(), exact=True)
        self.device, self.fp16 = torch.device("cpu"), False
        self.pt = self.jit = self.onnx = self.engine = self.triton = False
        self.saved_model = self.pb = self.nhwc = False
        about = self.network.metadata
        self.stride = int(about.get("stride", 32))
        self.names = about.get("names") or {index: f"class{index}" for index in range(999)}

    def forward(self, im: torch.Tensor, augment: bool = False, visualize: bool = False) -> Any:
        """Images (n, 3, h, w) to what the model returns."""
        outputs = [torch.from_numpy(out) for out in self.network(im.cpu().numpy())]
        return outputs[0] if len(outputs) == 1 else outputs
