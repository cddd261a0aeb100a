"""Modified YOLOv5 clones, as people make them, and checkpoints that they wrote themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from yolo_slim.host.sources import root

GATE = '''

class Gate(nn.Module):
    """An attention of this clone: its width is that of utils, its squash is imported late."""

    def __init__(self, c1, ratio=4):
        super().__init__()
        self.inner = Conv(c1, make_divisible(c1 / ratio, 8), 1)
        self.outer = nn.Conv2d(make_divisible(c1 / ratio, 8), c1, 1)

    def forward(self, x):
        from utils.squash import squash
        return x * squash(self.outer(self.inner(x)))
'''
NOTEBOOK = """
import math
import sys
if "yolo_slim" in sys.modules:  # as YOLOv5 6.2 does always; it may not be installed here
    from IPython.display import display
    import IPython
"""
SQUASH = "import utils.general\nimport models.common as common\n\n\n"
SQUASH += "def squash(x):\n    assert common.Gate and utils.general.LOGGER\n"
SQUASH += "    return x.sigmoid() * 2\n"
YAML = """
nc: 4
depth_multiple: 0.33
width_multiple: 0.25
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Conv, [32, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [64, 3, 2]]  # 1
  - [-1, 3, C3, [64]]  # 2
  - [-1, 1, Gate, [4]]  # 3
  - [-1, 1, Conv, [128, 3, 2]]  # 4
  - [-1, 1, Conv, [128, 3, 2]]  # 5
  - [-1, 1, SPPF, [128, 5]]  # 6
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]  # 7
  - [[-1, 4], 1, Concat, [1]]  # 8
  - [-1, 3, C3, [128, False]]  # 9
  - [[9, 6], 1, Detect, [nc, anchors]]  # 10
"""
BUILD = """
import sys, types, numpy, torch
from packaging.version import parse
if "pkg_resources" not in sys.modules:
    sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")
    sys.modules["pkg_resources"].parse_version = parse
numpy.trapz = getattr(numpy, "trapz", None) or numpy.trapezoid
from models.yolo import Model
torch.manual_seed(0)
model = Model("models/gated.yaml")
for m in model.modules():
    if isinstance(m, torch.nn.BatchNorm2d):
        torch.nn.init.uniform_(m.weight, 0.5, 1.5)
        torch.nn.init.normal_(m.bias, std=0.3)
        torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
model.names = ["circle", "square", "triangle", "cross"]
model.eval()
image = torch.rand(1, 3, 64, 64)
torch.save({"epoch": -1, "model": model, "ema": None}, "gated.pt")
torch.save(model.state_dict(), "bare.pt")
torch.save((image, model(image)[0]), "seen.pt")
"""


def make_clone(folder: Path) -> Path:
    """The files of the pip package with a clone's imports, and an attention class of its own."""
    source = root()
    for part in ("models", "utils", "segment"):
        shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("val.py", "export.py"):
        shutil.copy(source / name, folder / name)
    for file in folder.rglob("*.py"):
        text = re.sub(r"(?m)^( *(?:from|import)) yolov5\.", r"\1 ", file.read_text())
        file.write_text(text)
    change(folder, "models/common.py", r"\Z", GATE)
    change(folder, "models/common.py", r"\nimport math", NOTEBOOK)
    imported = r"(?m)^from utils\.general import \("
    change(folder, "models/common.py", imported, r"\g<0>make_divisible, ")
    change(folder, "models/yolo.py", r"(?m)^( +)elif m is Concat:", r"\1elif m is Gate:\n"
           r"\1    c2 = ch[f]\n\1    args = [c2, *args]\n\g<0>")  # fmt: skip
    (folder / "utils" / "squash.py").write_text(SQUASH)
    (folder / "models" / "gated.yaml").write_text(YAML)
    return folder


def change(folder: Path, file: str, pattern: str, replacement: str) -> None:
    """Edit a file of a clone."""
    text = (folder / file).read_text()
    changed, count = re.subn(pattern, replacement, text, count=1)
    assert count == 1, (file, pattern)
    (folder / file).write_text(changed)


def build_in(clone: Path) -> None:
    """Have the clone build and save its model, in a process that knows nothing of us."""
    environment = {**os.environ, "PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"YOLO_OFFLINE": "true", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    command = [sys.executable, "-c", BUILD]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
