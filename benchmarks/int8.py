"""Dense, cut, 8 bits, and both: size, time and mAP50-95 in ONNX Runtime and OpenVINO.

    python benchmarks/int8.py cells dense.pt cut.pt cells.yaml --imgsz 320

Both checkpoints are exported with `yolo-slim export --int8`, which validates each file on the
validation split of the data. Then the four files of a runtime are timed in turns. The last line is
a row of docs/results.md for each file; latency is a share of the dense float file in the same
runtime. The option --max-drop is that of the export.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from yolo_slim.commands import export
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.files import size_of
from yolo_slim.measure.latency import interleaved, random_images, warning_of
from yolo_slim.models import load
from yolo_slim.runtimes import opened

ROWS = ("onnx", "openvino")


def exported(weights: Path, folder: Path, opt: Any) -> dict[str, Any]:
    """The report of an export in both formats and in 8 bits."""
    argv = ["--weights", weights, "--include", *ROWS, "--int8", "--data", opt.data]
    argv += ["--imgsz", opt.imgsz, "--repeats", 0, "--max-drop", opt.max_drop]
    argv += ["--project", folder.parent, "--name", folder.name]
    done = export.main([str(each) for each in argv])
    report: dict[str, Any] = json.loads((done / "report.json").read_text())
    return report


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="of the data, for the rows")
    parser.add_argument("dense", type=Path)
    parser.add_argument("cut", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--keep", type=Path, help="a folder for the files")
    opt = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        folder = opt.keep or Path(aside)
        reports = {
            name: exported(getattr(opt, name), folder / name, opt) for name in ("dense", "cut")
        }
        params = {
            name: sum(p.numel() for p in load(getattr(opt, name)).model.parameters())
            for name in reports
        }
        print(f"{opt.name}: {params['cut'] / params['dense']:.3f} of the parameters are left")
        images = random_images(1, 3, opt.imgsz, opt.imgsz)
        lines = []
        for row in ROWS:
            files, maps = {}, {}
            for name, report in reports.items():
                int8 = report["int8"]["files"][row]
                files[name], files[f"{name}, 8 bits"] = report["files"][row], int8["file"]
                maps[name], maps[f"{name}, 8 bits"] = int8["float"]["map"], int8["int8"]["map"]
                print(
                    f"{row}, {name}: method {int8['method']}, float: {list(int8['float_layers'])}"
                )
            calls = {
                name: partial(opened(file, opt.threads), images) for name, file in files.items()
            }
            times = interleaved(calls, repeats=opt.repeats)
            print(warning_of(times))
            for name, file in files.items():
                size, share = size_of(Path(file)) / 1e6, times[name].median / times["dense"].median
                cells = [opt.name, FORMATS[row].runtime, name, f"{size:.2f}", f"{share:.2f}"]
                lines.append(f"| {' | '.join([*cells, f'{maps[name]:.4f}'])} |")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
