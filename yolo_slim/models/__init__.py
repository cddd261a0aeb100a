"""The classes that a checkpoint of a pruned model names, and `load`, which knows them.

Importing this package registers the classes (`host.classes.register`): host/ itself knows none.
"""

from yolo_slim.host.checkpoint import load
from yolo_slim.models import model, modules

__all__ = ["load", "model", "modules"]
