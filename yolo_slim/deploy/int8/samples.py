"""What the tensors of an ONNX graph hold on real images: extremes, means and a sample of values.

All is taken within the graph, next to each tensor, so that one image needs little more memory than
it needs to be run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from yolo_slim.runtimes.onnx import session

KEPT = 100_000  # values of a tensor, of all images together
STEP = 4  # every so many of the rows and columns of a map are sampled, where it has more


@dataclass(frozen=True)
class Sample:
    """What a tensor holds.

    Attributes:
        low, high: extremes of each image, (images,).
        values: some of its values, (n,).
        means: of each channel, (channels,).
    """

    low: np.ndarray
    high: np.ndarray
    values: np.ndarray
    means: np.ndarray


def sampled(
    content: bytes, tensors: Sequence[str], images: Sequence[np.ndarray], threads: int = 2
) -> dict[str, Sample]:
    """Run an ONNX file on images, and look at some of its tensors.

    Args:
        content: of the file; one input.
        tensors: names of maps (n, channels, height, width) of it.
        images: batches as the file takes them.
        threads: of ONNX Runtime.
    """
    import onnx

    model = onnx.load_from_string(content)
    names = [_watch_(model.graph, tensor, index) for index, tensor in enumerate(tensors)]
    runtime = session(model.SerializeToString(), threads)
    entry = runtime.get_inputs()[0].name
    per_image = max(KEPT // max(len(images), 1), 1)
    random = np.random.default_rng(0)
    low, high, means, values = ([[] for _ in tensors] for _ in range(4))  # type: ignore[var-annotated]
    for batch in tqdm(images, desc="calibrating", unit="batch", leave=False):
        results = iter(runtime.run([n for group in names for n in group], {entry: batch}))
        for index in range(len(tensors)):
            low[index].append(next(results))
            high[index].append(next(results))
            means[index].append(next(results).mean((0, 2, 3)))
            part = next(results).ravel()
            if part.size > per_image:
                part = part[random.integers(part.size, size=per_image)]
            values[index].append(part)
    return {
        tensor: Sample(
            np.array(low[i]), np.array(high[i]), np.concatenate(values[i]), np.mean(means[i], 0)
        )
        for i, tensor in enumerate(tensors)
    }


def _watch_(graph: Any, tensor: str, index: int) -> list[str]:
    """Add outputs to a graph: a tensor's minimum, maximum, means of channels, and some of it."""
    from onnx import TensorProto, helper, numpy_helper

    made = {kind: f"watched_{index}_{kind}" for kind in ("min", "max", "mean", "part")}
    for name, value in (
        ("from", [0, 0]),
        ("to", [2**31 - 1] * 2),
        ("on", [2, 3]),
        ("by", [STEP, STEP]),
    ):
        if index == 0:
            array = np.array(value, np.int64)
            graph.initializer.append(numpy_helper.from_array(array, f"watched_{name}"))
    graph.node.extend(
        [
            helper.make_node("ReduceMin", [tensor], [made["min"]], keepdims=0),
            helper.make_node("ReduceMax", [tensor], [made["max"]], keepdims=0),
            helper.make_node("GlobalAveragePool", [tensor], [made["mean"]]),
            helper.make_node(
                "Slice",
                [tensor, "watched_from", "watched_to", "watched_on", "watched_by"],
                [made["part"]],
            ),
        ]
    )
    for name in made.values():
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return list(made.values())
