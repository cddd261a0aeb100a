"""What each criterion keeps of a trained detector, before any finetuning.

The same model is cut to the same share of its MACs with each criterion of prune.py, once as it
comes and once with the least squares of the weights (`--recover weights`), and validated. All else
is as by default, but for the residual mode, which is the same for all. It says which criterion
begins better, not where finetuning ends.
"""

from __future__ import annotations

from pathlib import Path

from _common import parser, save_json
from tqdm import tqdm

from yolo_slim import calibrate, load, prune
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.pruning.budget.target import ROUND_TO
from yolo_slim.pruning.criteria.table import CRITERIA
from yolo_slim.text import table


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--weights", required=True, help="a trained checkpoint")
    args.add_argument("--data", required=True, help="its data yaml")
    args.add_argument("--imgsz", type=int, default=320, help="px")
    args.add_argument("--macs", type=float, default=0.7, help="share that is left")
    args.add_argument("--criteria", nargs="+", default=list(CRITERIA), help="names")
    args.add_argument("--residual", default="inner", help="skip, inner or group")
    args.add_argument("--round-to", type=int, default=ROUND_TO, help="see prune.py")
    args.add_argument("--images", type=int, default=64, help="of the calibration")
    args.add_argument("--seed", type=int, default=0, help="of the choice of these images")
    opt = args.parse_args()

    model = load(opt.weights).model
    data = check_data(opt.data, model.nc, ("train", "val"))
    calibration = calibrate(data, model, imgsz=opt.imgsz, images=opt.images, seed=opt.seed)
    dense = evaluate(model, data, imgsz=opt.imgsz, workers=0)
    found, rows = [], []
    for name in tqdm(opt.criteria, desc="criteria", unit="criterion"):
        row = [name]
        for recover in ((), ("weights",)):
            pruned = prune(
                model,
                macs=opt.macs,
                criterion=name,
                calibration=calibration,
                residual=opt.residual,
                round_to=opt.round_to,
                recover=recover,
                imgsz=opt.imgsz,
                seed=opt.seed,
            )
            accuracy = evaluate(pruned.model, data, imgsz=opt.imgsz, workers=0)
            before, after = pruned.report.before, pruned.report.after
            left = {"macs": after.macs / before.macs, "params": after.params / before.params}
            scored = {"map50": accuracy.map50, "map": accuracy.map}
            found.append({"criterion": name, "recover": recover, **left, **scored})
            if not recover:
                row += [f"{left['macs']:.3f}", f"{left['params']:.3f}"]
            row.append(f"{accuracy.map50:.3f} / {accuracy.map:.3f}")
        rows.append(row)
    title = f"{Path(opt.weights).name}, {opt.imgsz} px, {opt.images} calibration images, "
    title += f"residual {opt.residual}; mAP50 / mAP50-95, dense {dense.map50:.3f} / {dense.map:.3f}"
    print(table(["criterion", "MACs left", "parameters left", "cut", "fitted"], rows, title))
    save_json(opt.json, dense=dense.map, cases=found)


if __name__ == "__main__":
    main()
