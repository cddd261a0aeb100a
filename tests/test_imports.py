"""What is imported when: mistakes are told before torch is, and pruned models are always known."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import yolo_slim
from yolo_slim import cli
from yolo_slim.host.command_line import SCRIPTS
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.script_options import SEGMENT
from yolo_slim.host.sources import declared_options

PACKAGE = Path(yolo_slim.__file__).parent
MISTAKES = """
import sys
from yolo_slim.cli import run

def refused(command, *argv):
    try:
        code = run(command, argv)
    except SystemExit as error:  # argparse
        code = error.code
    assert code == 2, (command, argv, code)
    heavy = {"torch", "yolov5", "numpy", "cv2"} & sys.modules.keys()
    assert not heavy, (command, argv, heavy)

for command in ("sparse", "slim", "finetune", "prune", "export", "val", "detect"):
    refused(command, "--weights", "nope.pt", *["--data", "shapes.yaml"] * (command == "slim"))
    refused(command, "--no-such-option")
for command in ("inspect", "bench", "finegrained", "profile"):
    refused(command, "nope.pt")
refused("sensitivity", "nope.pt", "--data", "nope.yaml")
for option in ("nope.onnx", "nope_openvino_model", ".", "{0} --imgsz 64 64 64", "{0} --json .",
               "{0} --threads 0", "{0} --runtime some"):
    refused("bench", *option.format(__file__).split())
for option in (
    "--criterion foo", "--percent 1", "--macs 2", "--macs 0.5 --percent 0.5", "--steps 0",
    "--budget nope.csv", "--criterion AUTO --ratio model.1", "--ratio model.1",
    "--recover some", "--imgsz 33", "--data nope.yaml", "--seed -1",
):
    refused("prune", *option.split())
for option in ("--sr -1 --st", "--sr 1", "--st --percent 1", "--epochs 0", "--hyp nope.yaml",
               "--st --macs 0.5 --percent 0.5", "--data nope.yaml", "--cfg nope.yaml", "--cfg .",
               "--hyp ..", "--hyp half.yaml", "--hyp coco128.yaml", "--seed -1",
               "--data .", "--resume nope.pt", "--st --percent 0",
               "--st --macs 1", "--st --macs 0.5 --penalty l1", "--st --macs 0.5 --sr 1"):
    refused("sparse", *option.split())
for option in ("--macs 0", "--rounds 0", "--criterion foo", "--epochs 1", "--data nope.yaml"):
    refused("slim", "--weights", __file__, "--data", "shapes.yaml", *option.split())
refused("slim", "--resume", "nowhere")
for option in ("--lr-times 0", "--teacher nope.pt", "--hints nope.pt", "--workers -1", "",
               "--resume nope.pt", "--resume --lr-times 1"):
    refused("finetune", *option.split())
refused("sparse", "--resume")
refused("sparse", "--resume", "")
refused("slim", "--resume", "--epochs", "9")
for command in ("val", "detect"):
    for option in ("--weights a.pt b.pt", "--weights nope.onnx", "--workers -1", "--source nope"):
        refused(command, *option.split())
for option in ("--half", "--include engine", "--imgsz 96 128"):
    refused("export", *option.split())
for option in ("--repeats -1", "--opset 8", "--dense nope.pt", "--dynamic --include stock"):
    refused("export", *option.split())
refused("sensitivity", __file__, "--data", "shapes.yaml", "--imgsz", "33")
for option in ("--imgsz 33", "--threads 0", "-o .", "--prepare .", "--data nope.yaml"):
    refused("profile", __file__, *option.split())
refused("prune", "--weights", __file__, "--device", "d.json")
refused("prune", "--weights", __file__, "--latency", "0.6", "--device", "nope.json")
refused("finegrained", __file__, "--imgsz", "33")
refused("finegrained", __file__, "--seed", "-1")
"""


def test_mistakes_are_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "shapes.yaml").write_text("names: [a]")
    (tmp_path / "half.yaml").write_text("lr0: 0.01")
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    argv = [sys.executable, "mistakes.py"]
    run = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    text = "import sys\nfrom yolo_slim.cli import COMMANDS, run\nfor command in COMMANDS:\n"
    text += "    try:\n        run(command, ['--help'])\n    except SystemExit as error:\n"
    text += "        assert error.code == 0\n"
    text += "    heavy = {'torch', 'yolov5', 'numpy', 'cv2'} & sys.modules.keys()\n"
    text += "    assert not heavy, (command, heavy)\n"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_checkpoints_are_opened_where_pruned_models_are_known() -> None:
    """host.checkpoint.load knows the classes that were imported, models.load all of ours."""
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0] in ("host", "models"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "yolo_slim.host.checkpoint":
                assert "load" not in [alias.name for alias in node.names], file


def test_options_are_those_that_the_host_parses() -> None:
    """As its own parse_opt, imported and run, declares them."""
    mend()
    parsers = list[argparse.ArgumentParser]()

    class Parser(argparse.ArgumentParser):
        def parse_known_args(self, *args, **kwargs):
            parsers.append(self)
            raise StopIteration

    for script in (*SCRIPTS.values(), *SEGMENT.values(), "val.py", "detect.py"):
        module = import_module("yolov5." + script.removesuffix(".py").replace("/", "."))
        parsing = replaced(module, argparse=SimpleNamespace(ArgumentParser=Parser))
        with parsing, suppress(StopIteration):
            module.parse_opt()
        actions = {a.dest: a for a in parsers[-1]._actions if a.dest != "help"}
        ours = declared_options(script)
        assert list(ours) == list(actions)
        for name, (flags, kwargs) in ours.items():
            action = actions[name]
            assert action.option_strings == list(flags)
            if isinstance(action.default, Path):
                assert Path(kwargs["default"]).name == action.default.name
            elif "default" in kwargs:
                assert kwargs["default"] == action.default


def test_a_slow_import_is_told(monkeypatch, capsys) -> None:
    """PyTorch is being imported, and YOLOv5's classes are not there yet."""
    monkeypatch.setattr(cli, "SLOW", 0.05)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        patch.delitem(sys.modules, "yolo_slim.host.classes", raising=False)
        with cli.telling_of_imports():
            time.sleep(0.3)
    assert "loading PyTorch and YOLOv5: " in capsys.readouterr().err
    with cli.telling_of_imports():
        import yolo_slim.host.classes  # noqa: F401

        time.sleep(0.2)
    assert capsys.readouterr().err.count("loading") <= 1
