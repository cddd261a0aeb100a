"""export: files for other runtimes and for plain YOLOv5, compared on real images, timed."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.as_called import as_called
from yolo_slim.commands import export_int8 as in_8_bits
from yolo_slim.commands.export_options import check, check_importable, nms_of, parse
from yolo_slim.deploy.formats import FORMATS, Content, Format, length
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.files import size_of, write_aside
from yolo_slim.runs import STATE, new_run, newest, removed_if_empty, tell_taken
from yolo_slim.text import mega, say
from yolo_slim.together import together

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from yolo_slim.deploy.check import Agreement
    from yolo_slim.deploy.int8.quantise import Int8
    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.measure.latency import Latency

OTHER_SIZES = 2  # batches that --dynamic adds
STOCK = """With today's packages YOLOv5 7.0 opens no .pt. It opens this one after:
  pip install "setuptools<82"
  export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1
  yolov5 detect --weights {} --source images"""


def main(argv: Sequence[str] | None = None) -> Path:
    """Export; returns the run's folder."""
    opt = parse(argv)
    check(opt)
    weights = Path(opt.weights) if opt.weights else newest_finetuning()

    from tqdm import tqdm

    from yolo_slim.deploy.room import trial_folder
    from yolo_slim.host.image import check_rgb
    from yolo_slim.host.trained_with import stride_of
    from yolo_slim.models import load

    check_importable(opt)
    source = load(weights)
    check_rgb(source.model, weights)
    stride, imgsz = stride_of(source.model), sides_of(source, opt.imgsz)
    rows = [FORMATS[name] for name in opt.include]
    batches = image_batches(source, opt, imgsz, stride)
    timed = [row for row in rows if row.timed] if opt.repeats else []
    dense = dense_model(source, opt.dense, imgsz) if timed else None
    options = ExportOptions(
        imgsz,
        opt.batch_size,
        opt.dynamic,
        not opt.no_simplify,
        opt.opset,
        opt.half,
        nms_of(opt),
    )
    shared = in_8_bits.begun(source, options, opt) if opt.int8 else None
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    say(f"Exporting {source}, {told(options)}")
    tell_left_out(rows, options)
    with removed_if_empty(folder), trial_folder() as aside:
        contents, agreement = {}, {}
        with tqdm(rows, desc="exporting", unit="file", leave=False) as bar:
            for row in bar:
                bar.set_description(f"exporting {row.name}")
                contents[row] = row.write(source.model, row.own(options))
        for row, content in contents.items():
            file = row.put(aside, weights.stem, content)
            agreement[row] = compared(row, source.model, file, batches, options, opt)
        made: dict[Format, Int8] = {}
        if shared:
            shared.aside = aside
            made = {row: shared.of(row) for row in rows if "int8" in row.options}
        short = f"{weights.stem}{in_8_bits.SUFFIX}"
        for row, int8 in made.items():
            row.put(aside, short, int8.content)
        times = {row: times_of(row, dense, aside, weights.stem, options, opt) for row in timed}
        files = {row: row.file(folder, weights.stem) for row in contents}
        small = {row: row.file(folder, short) for row in made}
        of_int8 = in_8_bits.report_of(made, small, shared) if shared else None
        with together(folder) as new:
            for row, content in contents.items():
                row.put(new, weights.stem, content)
            for row, int8 in made.items():
                row.put(new, short, int8.content)
            write_report(new, weights, files, contents, agreement, times, options, of_int8)
    for row, file in files.items():
        nms = ", NMS as YOLOv5's" if row.own(options).nms else ""
        say(f"{file} ({mega(size_of(file))}), compared with PyTorch: {agreement[row]}{nms}")
    if shared:
        in_8_bits.tell(made, small, shared)
    print()
    if times:
        tell_times(times, files, small, opt, options)
    for row in rows:
        if row.use:
            say(f"{files[row].name}: {row.use}")
    if "stock" in opt.include:
        print(STOCK.format(shlex.quote(str(files[FORMATS["stock"]]))))
    return folder


def told(options: ExportOptions) -> str:
    """How it is exported, in words."""
    height, width = options.imgsz
    size = f"{height} px" if height == width else f"{height} x {width} px (height x width)"
    flags = [name for name in ("dynamic", "half", "nms") if getattr(options, name)]
    batch = [f"batches of {options.batch}"] * (options.batch > 1)
    return ", ".join([f"at {size}", *batch, *flags])


def tell_left_out(rows: Sequence[Format], options: ExportOptions) -> None:
    """Say which of the formats do not have an option that is given."""
    given = {name: getattr(options, name) for name in ("dynamic", "half", "nms")}
    for name in [*(name for name in given if given[name]), *["batch"] * (options.batch > 1)]:
        without = [row.name for row in rows if name not in row.options and not row.exact]
        if without:
            option = "batch-size" if name == "batch" else name
            say(f"--{option} is not for {', '.join(without)}: written without it.")


def sides_of(source: Checkpoint, given: Sequence[int] | None) -> tuple[int, int]:
    """Height and width of the images, px: as given, or square and of the training's size.

    Raises:
        InputError: no multiples of the model's stride.
    """
    from yolo_slim.host.trained_with import imgsz_of

    sides = [imgsz_of(source, side) for side in given or (None,)]
    return sides[0], sides[-1]


def newest_finetuning() -> Path:
    """The best checkpoint of the newest finetuning.

    Raises:
        InputError: there is none.
    """
    made_by = as_called("finetune")
    file = newest("**/weights/best.pt", where="--weights", made_by=made_by, beside="pruned.yaml")
    whole = file.parents[2]  # a training of slim lies in its run, whose best.pt may be another
    if (whole / STATE).is_file() and (whole / "best.pt").is_file():
        file = whole / "best.pt"
    tell_taken("best.pt of the newest training of a cut model", file)
    return file


def dense_model(source: Checkpoint, path: str | None, imgsz: tuple[int, int]) -> nn.Module | None:
    """The model before pruning: from a file, or its architecture from the checkpoint's ancestry.

    Latency does not depend on the weights, so that the architecture will do.

    Raises:
        InputError: the model of the file does not take images of this size.
    """
    from yolo_slim.host.classes import yolo
    from yolo_slim.host.image import check_rgb
    from yolo_slim.models import load

    if path:
        model = load(path).model
        check_rgb(model, path)
        stride = max(int(model.stride.max()), 32)
        for side in imgsz:
            if side % stride:
                got = f"a model of stride {stride}, which images of {side} px do not fit"
                raise InputError(f"--dense {path}", got, f"a stride that divides {side}")
        return model
    ancestry = getattr(source.model, "ancestry", None)
    if not ancestry:
        return None
    from yolo_slim.deploy.export import quiet
    from yolo_slim.models.model import build_model

    yaml = dict(ancestry[0]["dense_yaml"])
    with quiet():
        model = build_model(yaml, nc=source.model.nc)
    assert isinstance(model, yolo.DetectionModel)
    model.names = source.model.names
    return model.eval()


def image_batches(
    source: Checkpoint, opt: argparse.Namespace, imgsz: tuple[int, int], stride: int
) -> list[np.ndarray]:
    """Real images, letterboxed: of the data, else those that ship with the host.

    With --dynamic OTHER_SIZES more batches, of other sizes.
    """
    from yolo_slim.host.data import check_data, images, read_data
    from yolo_slim.host.image import read_images, readable
    from yolo_slim.host.trained_with import classes_of

    if opt.data:
        files = images(check_data(opt.data, classes_of(source)))
        files = readable(files, max(opt.images, opt.batch_size), f"{opt.data}, val")
    else:
        try:
            files = images(read_data(source.train["data"], download=False))
            files = readable(files, max(opt.images, opt.batch_size), "val")
        except (KeyError, InputError):
            files = []
        if not files:
            import yolov5

            files = sorted((Path(yolov5.__file__).parent / "data" / "images").glob("*.jpg"))
    files = (files * opt.batch_size)[: max(opt.images, opt.batch_size)]
    files = files[: len(files) // opt.batch_size * opt.batch_size]
    groups = [files[i : i + opt.batch_size] for i in range(0, len(files), opt.batch_size)]
    batches = [read_images(group, *imgsz) for group in groups]
    if opt.dynamic:
        pair, (height, width) = (files * 2)[:2], imgsz
        batches.append(read_images(pair, height + stride, max(stride, width - stride)))
        batches.append(read_images(pair[:1], max(stride, height // 2 // stride * stride)))
    return batches


def compared(
    row: Format,
    model: nn.Module,
    file: Path,
    batches: Sequence[np.ndarray],
    options: ExportOptions,
    opt: argparse.Namespace,
) -> Agreement:
    """Compare an export with PyTorch.

    Of a file with suppression in it, the same one without is compared, and then the two.

    Args:
        row: what was exported.
        model, file: before and after.
        batches: images; those of other sizes than the export's come last.
        options, opt: of the export.

    Raises:
        CheckFailed: they differ by more than the limits; an exact format at all.
    """
    from contextlib import nullcontext

    from yolo_slim.deploy.check import FLOAT32, HALF, compare
    from yolo_slim.numerics import one_thread

    options = row.own(options)
    batches = batches[:-OTHER_SIZES] if opt.dynamic and not options.dynamic else batches
    limits = HALF if options.half else FLOAT32
    run = row.open(file, opt.threads, exact=True)
    if options.nms:
        suppressed, plain = run, row.write(model, replace(options, nms=None))
        run = row.open(row.put(file.parent / "plain", file.stem, plain), opt.threads, exact=True)
    with one_thread() if row.exact else nullcontext():  # the last bit of a sum may depend on it
        agreement = compare(model, run, batches, limits)
    if options.nms:
        from yolo_slim.deploy.nms import compare_nms

        masks = getattr(model.model[-1], "nm", 0)
        if fault := compare_nms(run, suppressed, batches, options.nms, masks):
            raise CheckFailed(
                f"{row.name}: NMS differs from YOLOv5's: {fault}; nothing was written"
            )
    if row.exact and (agreement.boxes or agreement.scores or agreement.masks):
        text = f"{row.name} differs from our model: {agreement}; nothing was written"
        raise CheckFailed(text)
    if not agreement.holds:
        raise CheckFailed(f"{row.name} differs from PyTorch: {agreement}; nothing was written")
    return agreement


def times_of(
    row: Format,
    dense: nn.Module | None,
    folder: Path,
    stem: str,
    options: ExportOptions,
    opt: argparse.Namespace,
) -> dict[str, Latency]:
    """Latency of a file and, before it, of the dense model in the same format, if there is one.

    Args:
        row: the format.
        dense: the model.
        folder: where the file lies, and the dense model's is put.
        stem: the name of the file, without its end.
        options: of the export.
        opt: threads and rounds.
    """
    from functools import partial

    from yolo_slim.measure.latency import interleaved, random_images, torch_threads

    images = random_images(row.own(options).batch, 3, *options.imgsz)
    files = {"exported": row.file(folder, stem)}
    if (small := row.file(folder, f"{stem}{in_8_bits.SUFFIX}")).exists():
        files["int8"] = small
    if dense is not None:
        files = {
            "dense": row.put(folder / "dense", stem, row.write(dense, row.own(options)))
        } | files
    calls = {
        name: partial(row.open(file, opt.threads, exact=False), images)
        for name, file in files.items()
    }
    with torch_threads(opt.threads if row.runtime == "PyTorch" else 1):
        return interleaved(calls, repeats=opt.repeats, title=f"latency, {row.runtime}")


def write_report(
    folder: Path,
    weights: Path,
    files: Mapping[Format, Path],
    contents: Mapping[Format, Content],
    agreement: Mapping[Format, Agreement],
    times: Mapping[Format, Mapping[str, Latency]],
    options: ExportOptions,
    int8: dict[str, Any] | None,
) -> None:
    """Write report.json.

    Args:
        folder: where it is put.
        weights: that were exported.
        files: where each lies in the end.
        contents: of the files.
        agreement: of each with PyTorch.
        times: of each that was timed, and of the dense model.
        options: of the export.
        int8: what is said of the files in 8 bits.
    """
    latency: dict[str, Any] = {}
    for row, of_row in times.items():
        latency[row.name] = {name: asdict(value) for name, value in of_row.items()}
        if "dense" in of_row:
            latency[row.name]["ratio"] = of_row["exported"].median / of_row["dense"].median
    report = {
        "weights": str(weights.absolute()),
        "options": asdict(options),
        "files": {row.name: str(file) for row, file in files.items()},
        "bytes": {row.name: length(content) for row, content in contents.items()},
        "agreement": {row.name: asdict(value) for row, value in agreement.items()},
        "latency": latency,
    }
    if int8:
        report["int8"] = int8
    write_aside(folder / "report.json", json.dumps(report, indent=2).encode())


def tell_times(
    times: Mapping[Format, Mapping[str, Latency]],
    files: Mapping[Format, Path],
    small: Mapping[Format, Path],
    opt: argparse.Namespace,
    options: ExportOptions,
) -> None:
    """Print the times by format, those of files in 8 bits too, and what they say in words."""
    from yolo_slim.measure.latency import warning_of
    from yolo_slim.report.timing import Timed, formats_text

    table = [
        Timed(row.runtime, of_kind[row].name, of_row[kind], of_row.get("dense"))
        for row, of_row in times.items()
        for kind, of_kind in (("exported", files), ("int8", small))
        if row in of_kind
    ]
    size = f"{opt.batch_size} x {options.imgsz[0]} x {options.imgsz[1]} px"
    print(formats_text(table, threads=opt.threads, size=size, repeats=opt.repeats))
    dense = opt.dense or "the dense model (its architecture)"
    for each in table:
        if each.dense is None:
            say("No model to compare it with: --dense names one.")
            break
        about = "about " * bool(warning_of({"file": each.time, "dense": each.dense}))
        say(f"{each.file} takes {about}{each.share:.2f} of the time of {dense} in {each.runtime}.")
    in_8_bits.tell_pays(times, files, small)
