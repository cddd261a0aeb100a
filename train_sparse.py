"""Train YOLOv5 with channel sparsity: python train_sparse.py --st --sr 0.0002"""

import sys

from yolo_slim.cli import run

if __name__ == "__main__":
    sys.exit(run("sparse"))
