#!/usr/bin/env python3
"""Time the layers of a network on this device: workload.zip in, device.json out.

This file stands alone: it needs Python 3.8 or newer, numpy, and the runtime whose times are wanted
(onnxruntime, openvino or ncnn). Copy it to the device together with the workload:

    python profile_device.py workload.zip --runtime onnxruntime --threads 4 -o device.json

A conv is timed at several widths. Where to measure is decided here, by what the runtime shows:
first its block is looked for (the step in channels at which its time goes up), then each conv is
timed at multiples of that block, at the ends first, and between two widths where a straight line
between them would be wrong. What is measured is kept in device.json.part: an interrupted run goes
on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import zipfile
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

try:
    import numpy as np
except ImportError:
    sys.exit("error: numpy is not installed, expected pip install numpy")

FORMAT = "yolo-slim workload 1"
TABLE = "yolo-slim device 1"
BLOCKS = (1, 2, 4, 8, 16, 32)
LINE = 0.04  # a straight line between two widths may be wrong by this share of the time
DEPTH = 3  # halvings of an axis: at most nine widths
LEAST_RUNS, MOST_RUNS, ENOUGH = 7, 60, 0.03  # runs of a network, and seconds, for one figure
PASSES = 3  # over all layers
PROBE_PASSES = 5  # over the convs that are looked at for the block
MOST_THREADS = 1024  # beyond is a slip
EXTRA = 0.5  # of the channels that a begun block lacks: so many are paid for, at least
ROUNDS = 100  # of the whole networks, in turns; fewer where they last longer than LONGEST seconds
LEAST_ROUNDS, LONGEST = 12, 90
WORKLOAD = "the zip that `yolo-slim profile --prepare` wrote"


class Mistake(Exception):
    """What the user gave cannot be used: where, what was given, what was expected."""

    def __init__(self, where: str, got: str, expected: str) -> None:
        super().__init__(f"{where}: {got}, expected {expected}")
        self.parts = where, got, expected


# --- ONNX, as far as a conv needs it ---------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def _field(number: int, value: Any) -> bytes:
    """A field of a protobuf message: an int, or bytes, or text."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _ints(name: str, values: Sequence[int]) -> bytes:
    """An attribute that is a list of integers."""
    return _field(1, name) + b"".join(_field(8, v) for v in values) + _field(20, 7)


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = {"float32": 1, "int64": 7}[str(values.dtype)]
    dims = b"".join(_field(1, int(d)) for d in values.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, values.tobytes())


def _node(kind: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    names = b"".join(_field(1, name) for name in inputs)
    rows = b"".join(_field(5, attribute) for attribute in attributes)
    return names + _field(2, output) + _field(3, output) + _field(4, kind) + rows


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_field(1, _field(1, int(d))) for d in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


Job = Tuple[Dict[str, Any], int, int]  # a conv, its inputs and its outputs


def convs_onnx(jobs: Sequence[Job]) -> bytes:
    """One ONNX file of several convs side by side, each with its activation.

    The nodes of job 3 have names that begin with "job3."; weights are constants, spread on loading.
    """
    nodes, constants, outputs, inputs = [], [], [], {}
    spread = _field(1, "value") + _field(5, _tensor("v", np.full(1, 0.01, np.float32)))
    for index, (conv, wide, out) in enumerate(jobs):
        job, x = f"job{index}.", "x{}.{}x{}".format(wide, *conv["map"])
        inputs[x] = _value(x, [1, wide, *conv["map"]])
        shape = np.array([out, wide // conv["groups"], *conv["kernel"]], np.int64)
        constants.append(_tensor(job + "shape", shape))
        constants.append(_tensor(job + "bias", np.full(out, 0.1, np.float32)))
        nodes.append(
            _node("ConstantOfShape", [job + "shape"], job + "weight", spread + _field(20, 4))
        )
        nodes.append(
            _node(
                "Conv",
                [x, job + "weight", job + "bias"],
                job + "y",
                _ints("kernel_shape", conv["kernel"]),
                _ints("strides", conv["strides"]),
                _ints("pads", conv["pads"]),
                _ints("dilations", conv["dilations"]),
                _field(1, "group") + _field(3, conv["groups"]) + _field(20, 2),
            )
        )
        last = job + "y"
        if conv["activation"] == "SiLU":
            nodes.append(_node("Sigmoid", [last], job + "s"))
            nodes.append(_node("Mul", [last, job + "s"], job + "z"))
            last = job + "z"
        elif conv["activation"]:
            nodes.append(_node(conv["activation"], [last], job + "z"))
            last = job + "z"
        size = [(n + p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in _axes(conv)]
        outputs.append(_value(last, [1, out, *size]))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "convs")
    graph += b"".join(_field(5, constant) for constant in constants)
    graph += b"".join(_field(11, value) for value in inputs.values())
    graph += b"".join(_field(12, value) for value in outputs)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 14))


def _axes(conv: Dict[str, Any]) -> List[Tuple[int, int, int, int, int]]:
    """For both axes of a map: size, padding, dilation, kernel, stride."""
    pads = [conv["pads"][0] + conv["pads"][2], conv["pads"][1] + conv["pads"][3]]
    return list(zip(conv["map"], pads, conv["dilations"], conv["kernel"], conv["strides"]))


# --- runtimes --------------------------------------------------------------------------------


def _quarter(values: Sequence[float]) -> float:
    """The lower quartile: what other programs take from a run only adds to its time."""
    return float(np.percentile(values, 25))


def _runs(run: Callable[[], Any]) -> float:
    """Seconds of a call, from some runs after two that do not count."""
    run()
    run()
    times: List[float] = []
    end = time.perf_counter() + ENOUGH
    while len(times) < LEAST_RUNS or (time.perf_counter() < end and len(times) < MOST_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return _quarter(times)


def _random(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _by_job(nodes: Dict[str, float], jobs: int) -> List[float]:
    """The seconds of each job, from those of nodes whose names begin with it."""
    seconds = [0.0] * jobs
    for name, value in nodes.items():
        if name.startswith("job"):
            seconds[int(name[3 : name.index(".")])] += value
    return seconds


class Counted:
    """A runtime that counts the time of each node of an ONNX file."""

    def nodes(self, content: bytes) -> Dict[str, float]:
        """Node of a network to its seconds, but for what brings maps into the runtime's layout."""
        raise AssertionError("of each runtime")

    def seconds(self, content: bytes) -> float:
        """Of all layers of a network."""
        return sum(self.nodes(content).values())

    def convs(self, jobs: Sequence[Job]) -> List[float]:
        """Seconds of each conv."""
        conv, wide, out = jobs[0]
        first = (conv, wide, out + conv["groups"])  # the first one takes longer: it does not count
        return _by_job(self.nodes(convs_onnx([first, *jobs])), len(jobs) + 1)[1:]


class OnnxRuntime(Counted):
    """ONNX Runtime on the CPU; times of single layers are those of its own profiler."""

    name, suffix = "onnxruntime", ".onnx"

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reports home, from 1.29 on
        import onnxruntime

        self.module, self.threads, self.version = onnxruntime, threads, onnxruntime.__version__

    def _session(self, content: bytes, prefix: str = "") -> Any:
        options = self.module.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        if prefix:
            options.enable_profiling = True
            options.profile_file_prefix = prefix
        return self.module.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def call(self, content: bytes) -> Callable[[], Any]:
        """A function that runs a network once."""
        session = self._session(content)
        feed = {i.name: _random(i.shape) for i in session.get_inputs()}
        return lambda: session.run(None, feed)

    def nodes(self, content: bytes) -> Dict[str, float]:
        """Node of a network to its seconds, but for what brings maps into the runtime's layout."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._session(content, os.path.join(folder, "p"))
            feed = {i.name: _random(i.shape) for i in session.get_inputs()}
            _runs(lambda: session.run(None, feed))
            with open(session.end_profiling(), encoding="utf-8") as file:
                events = json.load(file)
        nodes: Dict[str, List[float]] = {}
        for event in events:
            kernel = event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
            if kernel and not event.get("args", {}).get("op_name", "").startswith("Reorder"):
                nodes.setdefault(event["name"], []).append(1e-6 * event["dur"])
        return {name: _quarter(times[2:]) for name, times in nodes.items()}


class OpenVino(Counted):
    """OpenVINO on the CPU; times of single layers are those of its own counters."""

    name, suffix = "openvino", ".onnx"

    def __init__(self, threads: int) -> None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # reports home
        import openvino

        self.core, self.threads, self.version = openvino.Core(), threads, openvino.__version__

    def _request(self, content: bytes, counters: bool) -> Tuple[Any, Dict[int, np.ndarray]]:
        options = {"INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY"}
        if counters:
            options["PERF_COUNT"] = True
        model = self.core.read_model(content)
        feed = {i: _random(list(port.shape)) for i, port in enumerate(model.inputs)}
        return self.core.compile_model(model, "CPU", options).create_infer_request(), feed

    def call(self, content: bytes) -> Callable[[], Any]:
        request, feed = self._request(content, False)
        return lambda: request.infer(feed)

    def nodes(self, content: bytes) -> Dict[str, float]:
        """Node of a network to its seconds, but for what brings maps into the runtime's layout."""
        request, feed = self._request(content, True)
        rows: Dict[str, List[float]] = {}

        def run() -> None:
            request.infer(feed)
            for row in request.profiling_info:
                if row.node_type not in ("Reorder", "Convert"):
                    rows.setdefault(row.node_name, []).append(row.real_time.total_seconds())

        _runs(run)
        return {name: _quarter(times[2:]) for name, times in rows.items()}


class Ncnn:
    """ncnn on the CPU; a layer is timed as a network of its own."""

    name, suffix = "ncnn", ".param"

    def __init__(self, threads: int) -> None:
        import ncnn

        self.module, self.threads, self.version = ncnn, threads, ncnn.__version__

    def call(self, content: bytes) -> Callable[[], Any]:
        net = self.module.Net()
        net.opt.num_threads = self.threads
        text = content.decode()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "net.param")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            net.load_param(path)
        net.load_model(self.module.DataReaderFromEmpty())
        arrays = [_random(shape) for shape in _ncnn_inputs(text)]
        mats = [self.module.Mat(array) for array in arrays]  # which have no memory of their own
        inputs, outputs = list(net.input_names()), list(net.output_names())

        def run() -> None:
            extractor = net.create_extractor()
            for name, mat in zip(inputs, mats):
                extractor.input(name, mat)
            for name in outputs:
                extractor.extract(name)

        run.kept = net, arrays, mats  # type: ignore[attr-defined]
        return run

    def seconds(self, content: bytes) -> float:
        return _runs(self.call(content))

    def convs(self, jobs: Sequence[Job]) -> List[float]:
        """Seconds of each conv."""
        return [self.seconds(conv_ncnn(*job)) for job in jobs]


RUNTIMES = {runtime.name: runtime for runtime in (OnnxRuntime, OpenVino, Ncnn)}


# --- ncnn, as far as a conv needs it ---------------------------------------------------------


def conv_ncnn(conv: Dict[str, Any], inputs: int, outputs: int) -> bytes:
    """The .param text of one conv with its activation; its weights are empty."""
    (kh, kw), (sh, sw), (dh, dw) = conv["kernel"], conv["strides"], conv["dilations"]
    top, left, bottom, right = conv["pads"]
    size = outputs * (inputs // conv["groups"]) * kh * kw
    kind = "Convolution" if conv["groups"] == 1 else "ConvolutionDepthWise"
    row = f"{kind} conv 1 1 in0 y 0={outputs} 1={kw} 11={kh} 2={dw} 12={dh} 3={sw} 13={sh}"
    row += f" 4={left} 14={top} 15={right} 16={bottom} 5=1 6={size}"
    row += f" 7={conv['groups']}" if conv["groups"] != 1 else ""
    height, width = conv["map"]
    rows = [f"Input in0 0 1 in0 0={width} 1={height} 2={inputs}", row]
    kinds = {"SiLU": "Swish", "Relu": "ReLU", "HardSwish": "HardSwish", "Sigmoid": "Sigmoid"}
    if conv["activation"] in kinds:
        rows.append(f"{kinds[conv['activation']]} act 1 1 y out0")
    else:
        rows[-1] = rows[-1].replace(" y ", " out0 ", 1)
    return "\n".join(["7767517", f"{len(rows)} {len(rows)}", *rows, ""]).encode()


def _ncnn_inputs(text: str) -> List[List[int]]:
    """The shapes (channels, height, width) that the Input rows of a .param give."""
    shapes = []
    for row in text.splitlines():
        if row.startswith("Input"):
            size = dict(part.split("=") for part in row.split() if "=" in part)
            shapes.append([int(size[key]) for key in ("2", "1", "0") if key in size])
    return shapes


# --- where a conv is measured ----------------------------------------------------------------


Probe = Tuple[Sequence[int], Sequence[float]]  # widths that follow each other, and their seconds


def probed(most: int) -> List[int]:
    """The widths at which a conv is looked at for the block: multiples of 4, the last ones all."""
    low = max(most // 2, most - 64, 1)
    return [n for n in range(low, most + 1) if n % 4 == 0 or n >= most - 16]


def find_block(probes: Dict[str, List[Probe]]) -> int:
    """The step in channels that a runtime works in: the larger one of its inputs and its outputs.

    It is the largest step at which a width in the middle between two multiples takes longer than
    the middle of their times: it pays for the next multiple as well, or leaves the fast path. If it
    pays for all of the next one, that is block / 2 channels of time too much.

    Args:
        probes: "inputs", "outputs" to convs at several widths of these.
    """
    for block in reversed(BLOCKS[1:]):
        for side in probes.values():
            extra = []
            for counts, seconds in side:
                at = dict(zip(counts, seconds))
                for count in counts:
                    low, high = count - block // 2, count + block // 2
                    if low % block == 0 and low in at and high in at:
                        more = 2 * at[count] / (at[low] + at[high]) - 1
                        extra.append(more * count / (block / 2))
            if extra and np.median(extra) > EXTRA:
                return block
    return 1


def widths(most: int, block: int, at: Callable[[List[int]], List[float]]) -> List[int]:
    """Where an axis is measured: at its ends, and where a line between two widths would be wrong.

    Args:
        most: the largest width.
        block: of the runtime; all other widths are multiples of it.
        at: widths to their seconds.
    """
    steps = sorted({*range(block, most, block), most})
    seconds: Dict[int, float] = {}
    chosen = {0, len(steps) - 1}
    spans = [(0, len(steps) - 1)]
    for _ in range(DEPTH):
        spans = [(low, high) for low, high in spans if high - low > 1]
        if not spans:
            break
        wanted = sorted({i for low, high in spans for i in (low, (low + high) // 2, high)})
        seconds.update(zip(wanted, at([steps[i] for i in wanted])))
        halves = []
        for low, high in spans:
            middle = (low + high) // 2
            share = (steps[middle] - steps[low]) / (steps[high] - steps[low])
            line = (1 - share) * seconds[low] + share * seconds[high]
            if high - low == len(steps) - 1 or abs(seconds[middle] - line) > LINE * line:
                chosen.add(middle)
                halves += [(low, middle), (middle, high)]
        spans = halves
    return [steps[i] for i in sorted(chosen)]


class Table:
    """What is measured, kept on disk as it comes."""

    def __init__(self, path: str, head: Dict[str, Any]) -> None:
        self.path, self.part, self.head = path, path + ".part", head
        self.seconds: Dict[str, float] = {}
        if os.path.exists(self.part):
            with open(self.part, encoding="utf-8", errors="replace") as file:
                lines = [_json(line) for line in file]
            if lines and lines[0] == head:
                rows = [row for row in lines[1:] if isinstance(row, list) and len(row) == 2]
                self.seconds = {str(key): float(seconds) for key, seconds in rows}
        if self.seconds:
            sys.stderr.write(f"{self.part}: goes on from there\n")
        mode, start = ("a", "") if self.seconds else ("w", json.dumps(head))
        with open(self.part, mode, encoding="utf-8") as file:
            file.write(start + "\n")  # a line that was cut off ends here

    def get(self, keys: List[str], measure: Callable[[List[int]], List[float]]) -> List[float]:
        """Figures that are there, or are measured now and kept.

        Args:
            keys: what they are of.
            measure: places in the list of keys to seconds.
        """
        new = [i for i, key in enumerate(keys) if key not in self.seconds]
        if new:
            rows = [(keys[i], s) for i, s in zip(new, measure(new))]
            self.seconds.update(rows)
            with open(self.part, "a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))
        return [self.seconds[key] for key in keys]

    def write(self, content: Dict[str, Any]) -> None:
        aside = self.path + ".new"
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(dict(self.head, **content), file, indent=1)
        os.replace(aside, self.path)
        if os.path.exists(self.part):  # no other run into the same file was faster
            os.remove(self.part)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # the run ended in the middle of this line
        return None


class Bar:
    """Progress on stderr: share, what is measured, time left."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start, self.shown = total, 0, time.time(), 0.0

    def step(self, text: str) -> None:
        self.done += 1
        now = time.time()
        if now - self.shown < 0.5 and self.done < self.total:
            return
        self.shown = now
        left = (now - self.start) / self.done * (self.total - self.done)
        share = self.done / self.total
        bar = "#" * int(20 * share) + "." * (20 - int(20 * share))
        end = "\n" if self.done >= self.total else ""
        rest = f"{left:4.0f} s left" if now - self.start > 3 or self.done >= self.total else ""
        line = f"\r{bar} {share:4.0%}  {text:<34.34} {rest:<11}"
        sys.stderr.write(line + end)
        sys.stderr.flush()


def profile(workload: zipfile.ZipFile, runtime: Any, table: Table) -> Dict[str, Any]:
    """All figures of a workload.

    Returns:
        block: of the runtime, channels. odd: times that a conv takes longer where its inputs, or
        its outputs, are no multiple of it. probes: what both follow from. convs: name to inputs,
        outputs (widths) and seconds (inputs, outputs). ops: name to channels and seconds. networks:
        name to seconds.
    """
    plan = json.loads(workload.read("workload.json"))
    convs, ops, networks = plan["convs"], plan["ops"], plan["networks"]
    probes_of = [name for name in (_probe(convs, kernel) for kernel in (1, 3)) if name]
    layers = PASSES * (len(convs) + len(ops)) + len(convs) + PROBE_PASSES * 2 * len(probes_of)
    bar = Bar(layers + len(networks) + ROUNDS)

    def measured(name: str, sizes: Sequence[Tuple[int, int]], number: int) -> List[float]:
        return table.get(
            [f"{name} {i} {o} #{number}" for i, o in sizes],
            lambda new: runtime.convs([(convs[name], *sizes[n]) for n in new]),
        )

    looked_at = []
    for name in probes_of:
        full = (convs[name]["inputs"], convs[name]["outputs"])
        for axis, title in enumerate(("inputs", "outputs")):
            counts = probed(full[axis])
            sizes = [(n, full[1]) if axis == 0 else (full[0], n) for n in counts]
            looked_at.append((name, title, counts, sizes))
    least: Dict[Tuple[str, str], np.ndarray] = {}
    for number in range(PROBE_PASSES):  # what disturbs one pass is over in the next
        for name, title, _, sizes in looked_at:
            bar.step("looking for the block of channels")
            seconds_now = np.array(measured(name, sizes, number))
            least[name, title] = np.minimum(least.get((name, title), np.inf), seconds_now)
    probes: Dict[str, List[Probe]] = {"inputs": [], "outputs": []}
    for name, title, counts, _ in looked_at:
        probes[title].append((counts, least[name, title].tolist()))
    block = find_block(probes)
    odd = {title: _odd(rows, block) for title, rows in probes.items()}

    def grid(name: str) -> Tuple[List[int], List[int]]:
        """The widths at which a conv is measured: of its inputs, and of its outputs."""
        row = convs[name]
        ins, outs = row["inputs"], row["outputs"]
        over_in, over_out = [ins], [outs]
        if row["groups"] == 1 and row["cut inputs"]:
            over_in = widths(ins, block, lambda at: measured(name, [(n, outs) for n in at], 0))
        if row["groups"] == 1 and row["cut outputs"]:
            over_out = widths(outs, block, lambda at: measured(name, [(ins, n) for n in at], 0))
        return over_in, over_out

    def op(name: str, number: int) -> List[float]:
        """Seconds of what is no conv, at each width."""
        files = [file + runtime.suffix for file in ops[name]["files"]]
        return table.get(
            [f"{file} #{number}" for file in files],
            lambda new: [runtime.seconds(workload.read(files[n])) for n in new],
        )

    grids = {}
    for name in convs:
        bar.step(name)
        grids[name] = grid(name)
    seconds: Dict[str, np.ndarray] = {}
    for number in range(PASSES):
        for name, (over_in, over_out) in grids.items():
            bar.step(name)
            flat = measured(name, [(i, o) for i in over_in for o in over_out], number)
            seconds[name] = np.minimum(seconds.get(name, np.inf), flat)
        for name in ops:
            bar.step(name)
            seconds[name] = np.minimum(seconds.get(name, np.inf), op(name, number))
    return {
        "block": block,
        "odd": odd,
        "probes": {title: [[list(c), list(s)] for c, s in rows] for title, rows in probes.items()},
        "convs": {
            name: {"inputs": i, "outputs": o, "seconds": seconds[name].reshape(len(i), -1).tolist()}
            for name, (i, o) in grids.items()
        },
        "ops": {
            name: {"channels": row["channels"], "seconds": seconds[name].tolist()}
            for name, row in ops.items()
        },
        "networks": _networks(workload, networks, runtime, bar),
    }


def _odd(probes: Sequence[Probe], block: int) -> float:
    """How many times longer a count takes that is no multiple of the block than the next one."""
    odd: List[float] = []
    for counts, seconds in probes:
        multiples = [(n, s) for n, s in zip(counts, seconds) if n % block == 0]
        if block > 1 and len(multiples) > 1:
            line = np.polyfit([n for n, _ in multiples], [s for _, s in multiples], 1)
            begun = np.polyval(line, [-(-n // block) * block for n in counts])
            odd += [s / b for n, s, b in zip(counts, seconds, begun) if n % block]
    return max(float(np.median(odd)), 1.0) if odd else 1.0


def _probe(convs: Dict[str, Any], kernel: int) -> Optional[str]:
    """The conv of this kernel that is best to look at: both widths are cut, and it is large."""
    fit = [
        name
        for name, row in convs.items()
        if row["kernel"] == [kernel, kernel]
        and row["groups"] == 1
        and row["cut inputs"]
        and row["cut outputs"]
    ]

    def near(name: str) -> float:
        row = convs[name]
        return abs(row["inputs"] - 96) + abs(row["outputs"] - 96)

    return min(fit, key=near) if fit else None


def _networks(
    workload: zipfile.ZipFile, networks: Dict[str, Any], runtime: Any, bar: Bar
) -> Dict[str, Any]:
    """Seconds of the whole networks, run in turns."""
    calls = {}
    for name, row in networks.items():
        bar.step(f"loading: {name}")
        calls[name] = runtime.call(workload.read(row["file"] + runtime.suffix))
    times: Dict[str, List[float]] = {name: [] for name in calls}
    names, began = list(calls), time.perf_counter()
    for index in range(ROUNDS + 3):
        if index > LEAST_ROUNDS and time.perf_counter() - began > LONGEST:
            bar.done = bar.total - 1  # a slow device: the rest is left out
        if index >= 3:
            bar.step("whole networks, in turns")
        for name in names[index % len(names) :] + names[: index % len(names)]:
            start = time.perf_counter()
            calls[name]()
            if index >= 3:
                times[name].append(time.perf_counter() - start)
        if bar.done >= bar.total:
            break
    return {name: {"seconds": _quarter(values), **networks[name]} for name, values in times.items()}


def processor() -> str:
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.lower().startswith(("model name", "hardware")):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def run(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("workload", help="of `yolo-slim profile --prepare`")
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="onnxruntime")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-o", "--output", default="device.json")
    options = parser.parse_args(argv)
    if not 1 <= options.threads <= MOST_THREADS:
        raise Mistake("--threads", str(options.threads), f"1 to {MOST_THREADS}")
    if not os.path.isfile(options.workload):
        got = "a folder" if os.path.isdir(options.workload) else "no such file"
        raise Mistake(options.workload, got, WORKLOAD)
    try:
        with zipfile.ZipFile(options.workload) as archive:
            measure(archive, options.runtime, options.threads, options.output)
            sys.stderr.write(f"{options.output}: the times of this device\n")
    except zipfile.BadZipFile:
        raise Mistake(options.workload, "no workload", WORKLOAD) from None


def measure(archive: zipfile.ZipFile, name: str, threads: int, output: str) -> None:
    """Time a workload, and write the table; an interrupted one goes on."""
    try:
        plan = json.loads(archive.read("workload.json"))
    except (KeyError, ValueError):
        plan = {}
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        raise Mistake(str(archive.filename), "no workload", WORKLOAD)
    if name not in plan["runtimes"]:
        made = f"{', '.join(plan['runtimes'])}: the workload is for these"
        raise Mistake("--runtime", name, made)
    try:
        runtime = RUNTIMES[name](threads)
    except ImportError:
        raise Mistake("--runtime", f"{name} is not installed", f"pip install {name}") from None
    head = {
        "format": TABLE,
        "layers": plan["layers"],
        "imgsz": plan["imgsz"],
        "runtime": runtime.name,
        "version": runtime.version,
        "threads": threads,
        "processor": processor(),
    }
    if os.path.isdir(output):
        raise Mistake("--output", f"{output}, a folder", "a file")
    try:
        table = Table(output, head)
    except OSError as error:
        got = f"cannot be written ({error.strerror})"
        raise Mistake(output, got, "a file in a folder that is there and writable") from None
    table.write(profile(archive, runtime, table))


def main() -> None:
    try:
        run()
    except Mistake as mistake:
        sys.stderr.write(f"error: {mistake}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: the same command goes on from here\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
