"""Cut the channels with small gamma: python prune.py --percent 0.6"""

import sys

from yolo_slim.cli import run

if __name__ == "__main__":
    sys.exit(run("prune"))
