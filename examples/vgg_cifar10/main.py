"""Network slimming of VGG, with yolo_slim: four steps and their table.

python main.py dense      VGG from scratch                           dense.pt
python main.py sparse     the same, with an L1 on the BN gammas      sparse.pt
python main.py prune      sparse.pt without 70% of its channels      pruned.pt
python main.py finetune   pruned.pt, trained on                      slim.pt
python main.py report     what each of them has and can do
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.cli import guarded
from yolo_slim.errors import InputError
from yolo_slim.parsing import Parser

RECIPES: dict[str, dict[str, Any]] = {  # sr is per optimizer step: few steps, large sr
    "cifar10": {"epochs": 160, "lr": 0.1, "sr": 1e-4},
    "digits": {"epochs": 24, "lr": 0.1, "sr": 1e-2},
}
PERCENT = 0.7
RESULTS = {"dense": "dense.pt", "sparse": "sparse.pt", "prune": "pruned.pt", "finetune": "slim.pt"}
STEPS = {
    "dense": "train from scratch",
    "sparse": "train from scratch with an L1 on the BN gammas",
    "prune": "cut the channels with the smallest gammas",
    "finetune": "train what is left",
    "report": "print accuracy, parameters and MACs of each step",
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; those that are left open depend on the data set (RECIPES)."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True, metavar="step")
    for step, text in STEPS.items():
        sub = steps.add_parser(step, help=text, description=text)
        sub.add_argument("--out", type=Path, default=Path("runs/vgg"), help="folder of the results")
        if step == "report":
            continue
        sub.add_argument("--data", type=Path, default=Path("datasets"), help="folder of CIFAR-10")
        sub.add_argument("--download", action="store_true", help="fetch CIFAR-10")
        sub.add_argument("--threads", type=int, help="of torch")
        if step in ("dense", "sparse"):
            sub.add_argument("--dataset", choices=RECIPES, default="cifar10")
            sub.add_argument("--depth", type=int, choices=(11, 13, 16, 19), default=19)
            sub.add_argument("--width", type=float, default=1.0, help="share of VGG's channels")
        else:
            sub.add_argument("--weights", type=Path, help="default: the step before, in --out")
        if step == "prune":
            sub.add_argument("--percent", type=float, default=PERCENT, help="share of the channels")
            continue
        sub.add_argument("--epochs", type=int)
        sub.add_argument("--lr", type=float)
        sub.add_argument("--batch-size", type=int, default=64)
        sub.add_argument("--seed", type=int, default=0)
        if step == "sparse":
            sub.add_argument("--sr", type=float, help="strength of the L1, per optimizer step")
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Raise InputError for a number that is out of range, and where nothing can be written."""
    from yolo_slim.files import check_writable

    least = {"epochs": 1, "batch_size": 2, "threads": 1, "seed": 0}
    for name, value in vars(args).items():
        option = "--" + name.replace("_", "-")
        if name in least and value is not None and value < least[name]:
            raise InputError(option, value, f"{least[name]} or more")
        if name in ("lr", "width") and value is not None and not 0 < value < math.inf:
            raise InputError(option, value, "a number above 0")
    if args.step != "report":
        check_writable(args.out)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one step."""
    args = parse(argv)
    check(args)
    if args.step == "report":
        print(report(args.out))
        return
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    {"dense": train, "sparse": train, "prune": cut, "finetune": finetune}[args.step](args)


def train(args: argparse.Namespace) -> None:
    """dense and sparse: from scratch."""
    import torch
    import vgg

    torch.manual_seed(args.seed)
    model = vgg.VGG(vgg.scaled(vgg.CFGS[args.depth], args.width))
    fit(args, model, {"dataset": args.dataset, "depth": args.depth, "width": args.width})


def finetune(args: argparse.Namespace) -> None:
    """The pruned model: nothing holds the cut channels, they are not there."""
    import vgg

    model, record = vgg.load(args.weights or args.out / RESULTS["prune"])
    fit(args, model, record)


def fit(args: argparse.Namespace, model: Any, record: dict[str, Any]) -> None:
    """Train a model and write it down."""
    import torch
    from dataset import load_data
    from training import train_

    from yolo_slim import channel_graph
    from yolo_slim.sparsify.readiness import start_medians
    from yolo_slim.sparsify.verdict import verdict

    recipe = RECIPES[record["dataset"]]
    options = {
        "epochs": args.epochs or recipe["epochs"],
        "lr": args.lr or recipe["lr"],
        "batch_size": args.batch_size,
        "seed": args.seed,
        "sr": 0.0,
    }
    if args.step == "sparse":
        options["sr"] = recipe["sr"] if args.sr is None else args.sr
    data = load_data(record["dataset"], args.data, args.download)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    norms = [norm.name for norm in channel_graph(model).prunable]
    start = start_medians(model, norms)
    before = measured(model, start, options, 0)
    right = train_(model, data, **options)
    if args.step == "sparse":
        history = [before, measured(model, start, options, options["epochs"])]
        print(verdict(history, PERCENT, "A larger --sr or more epochs help."))
    keep(args, model, {**record, **options}, right)


def measured(model: Any, start: dict[str, float], options: dict[str, Any], epoch: int) -> Any:
    """How sparse a model is, against the medians of |gamma| that the training began with."""
    from yolo_slim.sparsify.readiness import Sparsity

    return Sparsity.of(model, start, epoch=epoch, sr=options["sr"], percent=PERCENT)


def cut(args: argparse.Namespace) -> None:
    """The whole of yolo_slim's road: graph, scores, masks, a smaller VGG, and its proof."""
    import vgg
    from dataset import load_data
    from training import accuracy

    from yolo_slim import prune
    from yolo_slim.errors import check_share

    percent = check_share("--percent", args.percent, one=False)
    model, record = vgg.load(args.weights or args.out / RESULTS["sparse"])
    data = load_data(record["dataset"], args.data, args.download)
    pruned = prune(model, percent, round_to=1)
    print(pruned.report)
    keep(args, pruned.model, {**record, "percent": percent}, accuracy(pruned.model, data))


def keep(args: argparse.Namespace, model: Any, record: dict[str, Any], right: float) -> None:
    """Write the checkpoint of a step, and say how good it is."""
    import vgg

    from yolo_slim.measure.cost import cost

    costs = cost(model.cpu())
    record |= {"accuracy": right, "params": costs.params, "macs": costs.macs}
    path = vgg.save(model, args.out / RESULTS[args.step], record)
    print(f"{path}: accuracy {right:.2%}, {costs.params:,} parameters, {costs.macs:,} MACs")


def report(folder: Path) -> str:
    """A table of the steps whose results are in a folder.

    Raises:
        InputError: there are none.
    """
    import vgg

    from yolo_slim.text import ratio, table

    found = {s: vgg.load(folder / f)[1] for s, f in RESULTS.items() if (folder / f).is_file()}
    if not found:
        raise InputError(folder, "no results in it", "a folder that the other steps wrote to")
    whole = next(iter(found.values()))
    rows = [
        [
            step,
            f"{record['accuracy']:.2%}",
            f"{record['params'] / 1e6:.3g} M",
            ratio(record["params"], whole["params"]),
            f"{record['macs'] / 1e6:.3g} M",
            ratio(record["macs"], whole["macs"]),
        ]
        for step, record in found.items()
    ]
    return table(["step", "accuracy", "parameters", "left", "MACs", "left"], rows)


if __name__ == "__main__":
    sys.exit(guarded(main))
