"""Train the pruned model: python finetune_pruned.py"""

import sys

from yolo_slim.cli import run

if __name__ == "__main__":
    sys.exit(run("finetune"))
