"""What the benchmarks share: the host's models with random weights, and saving a result."""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.host.checkpoint import modernise_
from yolo_slim.host.classes import yolo
from yolo_slim.host.compat import replaced


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with --json FILE."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="save the result")
    return made


def save_json(file: Path | None, **result: Any) -> None:
    """Write the result with the command and the versions; nothing where file is None."""
    if file is None:
        return
    about = {"command": " ".join(["python", *sys.argv]), "torch": torch.__version__}
    about |= {"threads": torch.get_num_threads(), "python": sys.version.split()[0]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(about | result, indent=2) + "\n")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Only one process works on a file or in a folder; another one waits. FILE.lock stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{file}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def put_between(page: Path, mark: str, content: str) -> None:
    """Replace what stands in a page between `<!-- accuracy MARK -->` and `<!-- ... end -->`."""
    start, end = (f"<!-- accuracy {mark}{suffix} -->" for suffix in ("", " end"))
    before, _, rest = page.read_text().partition(start)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{start}\n{content}\n{end}{after}")


def randomise_norms_(model: nn.Module) -> None:
    """Give the BNs random weights, biases and statistics, in place, from torch's generator."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.1, 1.5)
            nn.init.normal_(m.bias, std=0.3)
            nn.init.normal_(m.running_mean, std=0.3)
            nn.init.uniform_(m.running_var, 0.5, 1.5)


def random_model(name: str, seed: int = 0, nc: int | None = None) -> nn.Module:
    """One of the host's models with random weights, gammas and betas, in eval mode."""
    torch.manual_seed(seed)
    with replaced(yolo.LOGGER, disabled=True):  # it prints the layers
        model = yolo.DetectionModel(str(Path(yolo.__file__).parent / f"{name}.yaml"), nc=nc)
    modernise_(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
            nn.init.normal_(module.bias, std=0.2)
    return model
