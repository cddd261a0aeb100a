"""Write a checked ONNX file: python export.py"""

import sys

from yolo_slim.cli import run

if __name__ == "__main__":
    sys.exit(run("export"))
