"""How fast a script answers --help, and says what is wrong, next to a Python that does nothing.

All are started as processes in turns, in an order that changes; compared are the medians. Neither
torch nor YOLOv5 may be imported for either. `--clone FOLDER` times the scripts of another clone
beside these. Targets on an idle machine: --help under 1000 ms, a mistake under 300 ms.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from _common import parser, save_json

from yolo_slim.measure.latency import interleaved
from yolo_slim.text import table

ROOT = Path(__file__).resolve().parents[1]
HELP = ("prune.py", "train_sparse.py")
HOSTS = ("val", "detect")  # YOLOv5's scripts, which are started by the console command alone
CONSOLE = "import sys; from yolo_slim.cli import run; sys.exit(run(sys.argv[1], sys.argv[2:]))"
MISTAKES = (
    "prune.py --weights nope.pt",
    "prune.py --criterion foo",
    "train_sparse.py --weights nope.pt",
    "finetune_pruned.py --lr-times 0",
    "export.py --weights nope.pt",
)


def process(folder: Path, *argv: str) -> Callable[[], None]:
    """A function that runs Python with these arguments to its end, in a clone."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}

    def run() -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([sys.executable, *argv], cwd=folder, env=environment, check=False, **quiet)

    return run


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--repeats", type=int, default=15, help="timed runs of each")
    args.add_argument("--clone", type=Path, help="another clone, to compare with")
    opt = args.parse_args()

    calls = {"python -c pass": process(ROOT, "-c", "pass")}
    for line in (*(f"{script} --help" for script in HELP), *MISTAKES):
        calls[line] = process(ROOT, *line.split())
        if opt.clone:
            calls[f"{line}, there"] = process(opt.clone.resolve(), *line.split())
    for name in HOSTS:
        calls[f"yolo-slim {name} --help"] = process(ROOT, "-c", CONSOLE, name, "--help")
    times = interleaved(calls, repeats=opt.repeats, warmup=1)
    rows = [[name, f"{t.median:.0f}", f"{t.spread:.0f}"] for name, t in times.items()]
    title = f"{opt.repeats} runs each, in turns"
    print(table(["", "median, ms", "between quartiles, ms"], rows, title))
    save_json(opt.json, **{f"{name}, ms": t.median for name, t in times.items()})


if __name__ == "__main__":
    main()
