"""Peak memory: of the file, and of nothing that another process took or imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_files import write_onnx

from yolo_slim.measure.memory import CHILD, Memory, peak_memory, peak_now

MIB = 2**20

pytestmark = pytest.mark.skipif(peak_now() is None, reason="the system does not tell")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two ONNX files, with weights of nearly nothing and of 64 MiB."""
    folder = tmp_path_factory.mktemp("memory")
    node = [helper.make_node("Conv", ["x", "w"], ["y"])]
    shape = [1, 3, 64, 64]
    small = write_onnx(folder / "small.onnx", node, {"w": (1, 3, 8, 8)}, shape, "y")
    large = write_onnx(folder / "large.onnx", node, {"w": (1365, 3, 64, 64)}, shape, "y")
    return small, large


def measured(path: Path) -> Memory:
    return peak_memory(CHILD, {"path": str(path), "threads": 1, "shape": [1, 3, 64, 64]})


def test_the_weights_are_in_it(files) -> None:
    small, large = map(measured, files)
    weights = files[1].stat().st_size
    assert 0 < small.model < 32 * MIB
    assert weights - MIB < large.model - small.model < 8 * weights
    assert abs(small.before - large.before) < 8 * MIB
    assert small.model == small.peak - small.before


def test_not_what_the_parent_took(files) -> None:
    before = measured(files[0])
    block = np.ones(64 * MIB, dtype=np.float64)  # 512 MiB
    assert peak_now() > block.nbytes
    assert measured(files[0]).peak < before.peak + 16 * MIB < block.nbytes


def test_nothing_but_the_runtime_is_imported(files) -> None:
    task = json.dumps({"path": str(files[0]), "threads": 1, "shape": [1, 3, 64, 64]})
    code = (
        "import sys\nfrom yolo_slim.measure.memory import main\nmain(sys.argv[1])\n"
        "assert 'onnxruntime' in sys.modules\n"
        "sys.exit(str({'torch', 'yolov5', 'cv2', 'onnx', 'tqdm'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, task], capture_output=True, text=True)
    assert run.stderr.strip() == "set()"


def test_a_process_that_fails_says_why_in_a_line(tmp_path) -> None:
    with pytest.raises(ChildProcessError, match=r"none\.onnx: no such file, expected"):
        measured(tmp_path / "none.onnx")
    with pytest.raises(ChildProcessError, match="KeyError: 'path'"):
        peak_memory(CHILD, {})
    (tmp_path / "ended.py").write_text("import os\nos.abort()\n")
    sys.path.append(str(tmp_path))
    try:
        with pytest.raises(ChildProcessError, match="stopped by signal 6"):
            peak_memory("ended", {})
    finally:
        sys.path.remove(str(tmp_path))
