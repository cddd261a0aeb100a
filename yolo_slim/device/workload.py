"""The workload of a detector: what `profile_device.py` times on a device, as one zip."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tqdm import tqdm

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.device.layers import Exported, Op, cut_sides
from yolo_slim.device.profile_device import FORMAT

LARGE = 64  # a constant of more elements is not stored: only its shape is


@dataclass(frozen=True)
class Network:
    """A network that is timed as a whole.

    Attributes:
        name: "dense" for the model as it is.
        content: an ONNX file.
        step: what the layers that lost channels have a multiple of; 0: none lost any.
    """

    name: str
    content: bytes
    step: int = 0

    @property
    def file(self) -> str:
        """Its name in the workload, without the suffix."""
        return f"networks/{self.name}".replace(" ", "-").replace(",", "")


def workload(
    content: bytes,
    graph: ChannelGraph,
    networks: Sequence[Network],
    *,
    imgsz: int,
    convert: Mapping[str, Callable[[bytes], bytes]],
) -> bytes:
    """The zip that the script of a device reads.

    Args:
        content: ONNX file of the dense model.
        graph: its channel graph.
        networks: the dense one, and some cuts of it.
        imgsz: side of the image, px.
        convert: suffix of a runtime's files to what makes them of an ONNX file.
    """
    exported = Exported(content, graph)
    plan: dict[str, Any] = {"format": FORMAT, "imgsz": imgsz}
    plan["layers"] = [[c.name, c.key, c.inputs, c.outputs] for c in exported.convs.values()]
    plan["runtimes"] = ["onnxruntime", "openvino"] + ["ncnn"] * (".param" in convert)
    plan["convs"] = conv_rows(exported, graph)
    files: dict[str, bytes] = {}
    plan["ops"] = {}
    for op in exported.ops:
        if op.key in plan["ops"] and plan["ops"][op.key]["channels"][0] >= len(op.ids):
            continue
        sides = [len(op.ids), len(op.ids) // 2] if len(op.ids) > 1 else [len(op.ids)]
        names = []
        for channels in sides:
            names.append(f"ops/{op.key} {channels}".replace(" ", "-"))
            files[names[-1]] = piece(exported, op, channels / max(len(op.ids), 1))
        plan["ops"][op.key] = {"channels": sides, "files": names}
    plan["networks"] = {
        n.name: {"file": n.file, "step": n.step, **parts(Exported(n.content, graph))}
        for n in networks
    }
    whole = {network.file: network.content for network in networks}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("workload.json", json.dumps(plan, indent=1))
        every = {**files, **whole}.items()
        for name, file in tqdm(every, desc="writing the workload", unit="file", leave=False):
            archive.writestr(f"{name}.onnx", without_weights(file))
            for suffix, make in convert.items():
                archive.writestr(name + suffix, make(file))
    return buffer.getvalue()


def parts(exported: Exported) -> dict[str, list]:
    """What a whole network consists of: kinds of convs and of the rest, with their widths."""
    return {
        "convs": [[conv.key, conv.inputs, conv.outputs] for conv in exported.convs.values()],
        "ops": [
            [op.key, exported.shapes[op.outputs[0]][1] if len(op.ids) else 0] for op in exported.ops
        ],
    }


def conv_rows(exported: Exported, graph: ChannelGraph) -> dict[str, Any]:
    """Key to what the script must know of the convs of a kind; its widths are the largest."""
    rows: dict[str, Any] = {}
    for conv in exported.convs.values():
        row = rows.setdefault(
            conv.key,
            {
                "kernel": conv.kernel,
                "strides": conv.strides,
                "pads": conv.pads,
                "dilations": conv.dilations,
                "groups": conv.groups,
                "activation": conv.activation,
                "map": conv.map,
                "inputs": 0,
                "outputs": 0,
                "cut inputs": False,
                "cut outputs": False,
            },
        )
        cut = cut_sides(graph, conv.name)
        for side, title in enumerate(("inputs", "outputs")):
            width = getattr(conv, title)
            row[f"cut {title}"] |= cut[side] or row[title] not in (0, width)
            row[title] = max(row[title], width)
    return rows


def piece(exported: Exported, op: Op, share: float) -> bytes:
    """An ONNX file of an operator, or of several, at a share of their width."""
    if not len(op.ids):
        part = onnx.utils.Extractor(exported.model).extract_model(list(op.inputs), list(op.outputs))
        content: bytes = part.SerializeToString()
        return content
    node = next(n for n in exported.nodes if n.output[0] == op.outputs[0])
    shapes = [_scaled(exported.shapes[name], share) for name in op.inputs]
    names = [f"in{index}" for index in range(len(op.inputs))]
    place = dict(zip(op.inputs, names, strict=True))
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [place.get(name, name) for name in node.input]
    copy.output[:] = ["out0"]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [copy],
        "piece",
        [helper.make_tensor_value_info(n, kind, s) for n, s in zip(names, shapes, strict=True)],
        [helper.make_tensor_value_info("out0", kind, None)],
        [exported.constants[name] for name in node.input if name in exported.constants],
    )
    made = helper.make_model(
        graph, opset_imports=exported.model.opset_import, ir_version=exported.model.ir_version
    )
    result: bytes = onnx.shape_inference.infer_shapes(made).SerializeToString()
    return result


def _scaled(shape: Sequence[int], share: float) -> list[int]:
    return [shape[0], max(round(shape[1] * share), 1), *shape[2:]]


def without_weights(content: bytes) -> bytes:
    """The same network with constants of one value in place of its weights.

    Each has a value of its own: a runtime makes one of two layers that compute the same.
    """
    model = onnx.load_from_string(content)
    small: list[Any] = []
    nodes: list[Any] = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) <= LARGE:
            small.append(tensor)
            continue
        shape = numpy_helper.from_array(np.array(tensor.dims, np.int64), f"{tensor.name}.shape")
        small.append(shape)
        value = numpy_helper.from_array(np.full(1, 0.01 + 1e-5 * len(nodes), np.float32))
        nodes.append(helper.make_node("ConstantOfShape", [shape.name], [tensor.name], value=value))
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(small)
    model.graph.node.extend(nodes)
    result: bytes = model.SerializeToString()
    return result
