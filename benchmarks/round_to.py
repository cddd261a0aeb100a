"""What rounding kept channels to multiples of N does for speed: ONNX Runtime, N = 1, 4, 8, 16, 32.

For each model and image size, the same random scores are cut to the same shares of the MACs with
each N (`prune --macs S --round-to N`, all else as by default), exported, and run in turns with the
dense model: 2 threads, no spinning. Efficiency is the speed-up times the share of MACs that is
left: 1 where time falls as MACs do. Compared are medians.
Targets, for the default N at 640 px at about half of the MACs: 0.75 for yolov5n, 0.85 for yolov5s;
and no pruned model slower than the dense one.
"""

from __future__ import annotations

from pathlib import Path

from _common import parser, random_model, save_json
from tqdm import tqdm

from yolo_slim import prune
from yolo_slim.deploy.export import to_onnx
from yolo_slim.host.checkpoint import load
from yolo_slim.measure.latency import onnx_latency
from yolo_slim.pruning.budget.target import ROUND_TO
from yolo_slim.text import table


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--models", nargs="+", default=["yolov5n", "yolov5s"], help="yamls or .pt")
    args.add_argument("--imgsz", nargs="+", type=int, default=[320, 640], help="px")
    args.add_argument("--macs", nargs="+", type=float, default=[0.9, 0.7, 0.5, 0.35], help="left")
    args.add_argument("--round-to", nargs="+", type=int, default=[1, 4, 8, 16, 32], help="N")
    args.add_argument("--criterion", default="bn", help="how channels are scored")
    args.add_argument("--residual", default="skip", help="skip, inner or group")
    args.add_argument("--repeats", type=int, default=40, help="timed rounds")
    opt = args.parse_args()

    found, rows = [], []
    cases = [(m, p, s) for m in opt.models for p in opt.imgsz for s in opt.macs]
    for name, imgsz, share in tqdm(cases, desc="models", unit="case"):
        model = load(name).model if Path(name).suffix == ".pt" else random_model(name)
        files, left = {"dense": to_onnx(model, imgsz=imgsz)}, {}
        for n in opt.round_to:
            pruned = prune(
                model,
                macs=share,
                round_to=n,
                criterion=opt.criterion,
                residual=opt.residual,
                imgsz=imgsz,
            )
            left[n] = pruned.report.after.macs / pruned.report.before.macs
            files[str(n)] = to_onnx(pruned.model, imgsz=imgsz)
        times = onnx_latency(files, imgsz=imgsz, repeats=opt.repeats)
        for n in opt.round_to:
            speed = times["dense"].median / times[str(n)].median
            case = {"model": Path(name).stem, "imgsz": imgsz, "macs": share, "round_to": n}
            found.append({**case, "left": left[n], "speed": speed, "efficiency": speed * left[n]})
    for name, imgsz, share in cases:
        of = [
            f
            for f in found
            if (f["model"], f["imgsz"], f["macs"]) == (Path(name).stem, imgsz, share)
        ]
        cells = [f"{f['speed']:.2f}x  {f['efficiency']:.2f}" for f in of]
        rows.append([f"{Path(name).stem}, {imgsz} px", f"{share:.0%}", *cells])
    heads = ["", "MACs left", *(f"N = {n}" for n in opt.round_to)]
    print(table(heads, rows, "speed-up and efficiency (speed-up x share of MACs left)"))
    slower = [f for f in found if f["round_to"] == ROUND_TO and f["speed"] < 1]
    print(f"default N = {ROUND_TO}: slower than dense in {len(slower)} of {len(cases)} cases")
    save_json(opt.json, cases=found)


if __name__ == "__main__":
    main()
