"""How long the pass over the label files of a large data set takes, the first time and later.

    python benchmarks/labels.py --files 100000

The files are made in a temporary folder, 2 to 20 boxes each, and removed again.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from yolo_slim.host.labels import read_labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--outlines", action="store_true", help="10 points each, in place of boxes")
    opt = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = make_labels(Path(folder) / "labels", opt.files, 20 if opt.outlines else 4)
        time.sleep(2.5)  # what is younger is not kept
        kept = Path(folder) / "labels.checked.json"
        for title in ("first", "again"):
            start = time.perf_counter()
            labels = read_labels(files, kept)
            seconds = time.perf_counter() - start
            assert len(labels) == opt.files
            print(f"{title}: {seconds:.1f} s, {seconds / opt.files * 1e6:.0f} us a file")


def make_labels(folder: Path, count: int, values: int) -> list[str]:
    """Label files of random rows: a class, then so many values."""
    draw = random.Random(0)
    folder.mkdir()
    files = []
    for index in range(count):
        rows = (
            " ".join([str(draw.randrange(80)), *(f"{draw.random():.6f}" for _ in range(values))])
            for _ in range(draw.randint(2, 20))
        )
        file = folder / f"{index:06}.txt"
        file.write_text("\n".join(rows) + "\n")
        files.append(str(file))
    return files


if __name__ == "__main__":
    main()
