"""YOLOv5's own scripts, run as they are: val and detect."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from yolo_slim.errors import InputError
from yolo_slim.host import checkpoint, data
from yolo_slim.host.compat import mend, replaced

mend()


def run_host(name: str, argv: Sequence[str] | None = None) -> None:
    """Run yolov5.val or yolov5.detect with its own command line.

    Args:
        name: val or detect.
        argv: the options, None for sys.argv.

    Raises:
        InputError: weights or data cannot be used, or the host refused its options.
    """
    from yolo_slim.cli import OneLineParser

    host = import_module(f"yolov5.{name}")
    options = list(sys.argv[1:] if argv is None else argv)

    class Parser(OneLineParser):
        def parse_args(self, *args: object, **kwargs: object) -> argparse.Namespace:  # type: ignore[override]
            self.prog = f"yolo-slim {name}"
            opt = super().parse_args(options)
            opt.data = str(data.shipped(opt.data) if data.shipped(opt.data).is_file() else opt.data)
            weights = opt.weights if isinstance(opt.weights, list) else [opt.weights]
            for file in weights:
                if Path(file).suffix == ".pt":
                    checkpoint.load(file)
            opt.weights = [str(Path(file).absolute()) for file in weights]
            if name == "val":
                data.check_data(opt.data)
            return opt

    swapped = {"argparse": SimpleNamespace(ArgumentParser=Parser)}
    if hasattr(host, "check_dataset"):
        swapped["check_dataset"] = data.read_data  # type: ignore[assignment]
    with (
        checkpoint.safe_loading(),
        replaced(host, check_requirements=lambda *args, **kwargs: None, **swapped),
    ):
        try:
            host.main()
        except (AssertionError, FileNotFoundError) as error:
            raise InputError(f"yolo-slim {name}", str(error) or "refused", "see --help") from error
