"""The process in which bench measures the memory of a checkpoint, in PyTorch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from yolo_slim.errors import InputError


def main(argument: str) -> None:
    """Open the checkpoint as bench does, run it, print the memory.

    Args:
        argument: JSON, with path, threads, shape, and what --modules and --cfg are given.
    """
    import torch

    from yolo_slim.deploy.export import exportable
    from yolo_slim.extensions import admit
    from yolo_slim.host.architecture import architecture
    from yolo_slim.measure.memory import tell
    from yolo_slim.models import load

    task = json.loads(argument)
    torch.set_num_threads(task["threads"])

    def opened() -> Callable[[Any], Any]:
        for file in task["modules"]:
            admit(file)
        with architecture(task["cfg"], only=True), torch.no_grad():
            model = exportable(load(task["path"]).model)
        return torch.inference_mode()(lambda images: model(torch.from_numpy(images)))

    tell(opened, task["shape"])


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except InputError as error:
        sys.exit(str(error))
