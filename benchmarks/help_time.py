"""How fast `python prune.py --help` answers, next to a Python that does nothing.

Both are started as processes in turns, in an order that changes; compared are the medians. The host
and torch must not be imported for a help text. Target: under 1 s.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from _common import parser, save_json

from yolo_slim.measure.latency import interleaved
from yolo_slim.text import table

ROOT = Path(__file__).resolve().parents[1]


def process(*argv: str) -> Callable[[], None]:
    """A function that runs Python with these arguments to its end."""

    def run() -> None:
        subprocess.run([sys.executable, *argv], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    return run


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--repeats", type=int, default=15, help="timed runs of each")
    args.add_argument("--scripts", nargs="+", default=["prune.py"], help="which scripts")
    opt = args.parse_args()

    calls = {"python -c pass": process("-c", "pass")}
    calls |= {f"python {script} --help": process(script, "--help") for script in opt.scripts}
    times = interleaved(calls, repeats=opt.repeats, warmup=2)
    rows = [[name, f"{t.median:.0f}", f"{t.spread:.0f}"] for name, t in times.items()]
    title = f"{opt.repeats} runs each, in turns"
    print(table(["", "median, ms", "between quartiles, ms"], rows, title))
    print("target: under 1000 ms")
    save_json(opt.json, **{f"{name}, ms": t.median for name, t in times.items()})


if __name__ == "__main__":
    main()
