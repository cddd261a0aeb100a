"""finetune_pruned: YOLOv5's training on the pruned model, with its shapes checked throughout."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.as_called import as_called, named
from yolo_slim.commands.finetune_options import NONE, lr_times_of, parse
from yolo_slim.commands.sparse import DEMO_DATA, DEMO_IMGSZ
from yolo_slim.distill.hints import Hints, kept_channels
from yolo_slim.distill.record import record
from yolo_slim.distill.teacher import Teacher, check_teacher
from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.files import shipped, write_aside
from yolo_slim.host import data, options, training
from yolo_slim.host.evaluate import evaluate
from yolo_slim.host.options import task_of
from yolo_slim.host.trained_with import USUAL, all_as_one, imgsz_of
from yolo_slim.models import load
from yolo_slim.models.model import ModelPruned, build_heir, build_model
from yolo_slim.models.pruned_yaml import write_yaml
from yolo_slim.page import write as page
from yolo_slim.pruning.rebuild.plan import pruned_yaml
from yolo_slim.resume import refuse_finished, resolve_resume_
from yolo_slim.rounds.course import MORE, course, still_rising
from yolo_slim.runs import FINETUNED, trained_file
from yolo_slim.shapes import NAMES
from yolo_slim.sparsify.probe import same_generators
from yolo_slim.text import apart, counted, say
from yolo_slim.weight_masks import WeightMasks, check_zeros, hold_masks, masks_of


def main(argv: Sequence[str] | None = None) -> Path:
    """Finetune; returns the run's folder."""
    opt = parse(argv)
    if opt.resume:
        saved = resolve_resume_(opt, beside=FINETUNED, made_by="finetune")
        refuse_finished(saved, "finetune")
    else:
        resolve_defaults_(opt)
    hooks = hooks_of(opt)
    folder = train(opt, hooks)
    if not opt.no_page and not opt.evolve:
        page.leave_page(folder, device=str(opt.device))
    if hooks.lost and opt.weights:  # the model before the training is the better one
        again = ("--weights", opt.weights, "--epochs", 2 * opt.epochs)
        print(f"Next: {as_called('finetune', *again, opt=opt)}")
    else:
        print(f"Next: {as_called('export', '--weights', trained_file(folder), opt=opt)}")
    return folder


def resolve_defaults_(opt: argparse.Namespace) -> None:
    """The newest pruned.pt, and the data and image size that its model was trained with.

    Raises:
        InputError: an option cannot be used.
    """
    opt.weights = opt.weights or ""
    trained, nc, names, student = {}, None, {}, None
    source = options.load_weights_(opt) if opt.weights else None
    if opt.cfg:
        student = model = options.check_cfg(opt.cfg, build_model)
        if not isinstance(model, ModelPruned):
            raise InputError(f"--cfg {opt.cfg}", "a yaml without pruned modules", "a pruned.yaml")
        nc, names = model.nc if not opt.weights else None, model.names
    if source:
        if not isinstance(source.model, ModelPruned) and not masks_of(source.model):
            text = f"a pruned.pt of {named('prune')}, or a sparse.pt of {named('finegrained')}"
            raise InputError(opt.weights, "a model that is not pruned", text)
        trained, nc, names, student = source.train, source.model.nc, source.names, source.model
        if opt.cfg:
            check_same_layers(opt.cfg, model, student)
        if all_as_one(trained, student) and not opt.single_cls:
            training.LOGGER.info("--single-cls, as the model was trained")
            opt.single_cls = True
        if opt.single_cls and nc != 1:
            got = f"given for a model of {counted(nc, 'class')}"
            raise InputError("--single-cls", got, "no such option: the shapes of a cut model stay")
    if opt.data is None:
        if not trained.get("data") and set(names.values()) != set(NAMES):
            got = "not given, and the model does not say what it was trained on"
            raise InputError("--data", got, "a data yaml")
        opt.data = str(
            trained.get("data")
            or shipped(DEMO_DATA[task_of(opt, student if opt.weights else None)])
        )
        if not Path(opt.data).is_file():  # what a checkpoint names is not downloaded
            got = f"not given, and {opt.data}, which the checkpoint was trained on, is not here"
            raise InputError("--data", got, "a data yaml")
    if opt.imgsz is None:
        usual = USUAL if trained or not opt.weights else DEMO_IMGSZ
        opt.imgsz = imgsz_of(source) if source and trained.get("imgsz") else usual
    if opt.teacher:
        opt.teacher = str(Path(opt.teacher).absolute())
        check_teacher(load(opt.teacher).model, student, f"--teacher {opt.teacher}")
    opt.hints = source_of_hints(opt.hints, student if opt.weights else None)
    if opt.lr_times is None:
        opt.lr_times = lr_times_of(opt) if opt.weights and isinstance(student, ModelPruned) else 1.0
    loaded = student if opt.weights else None
    options.check_common(opt, None if opt.single_cls else nc, loaded)
    options.check_fits(opt, model if loaded is None else loaded, keeps_head=loaded is not None)


def check_same_layers(cfg: str, built: nn.Module, student: nn.Module) -> None:
    """See that weights fit the yaml that is to be trained, but for its head and its anchors.

    Raises:
        InputError: a layer differs.
    """
    head = f"model.{len(built.model) - 1}."
    ours, theirs = shapes(built), shapes(student)
    for key in [*ours, *theirs]:
        if not key.startswith(head) and ours.get(key) != theirs.get(key):
            got = f"{key} of {ours.get(key)}, in the weights {theirs.get(key)}"
            raise InputError(f"--cfg {cfg}", got, "the pruned.yaml of these weights")


def source_of_hints(given: str | None, student: nn.Module | None) -> str:
    """The checkpoint that gives the hints, absolute; "none" where there is none.

    Args:
        given: of --hints; None: the model that the student was cut from, if it still is there.
        student: the pruned model; None if its weights are random.

    Raises:
        InputError: the given checkpoint is not the model that was cut.
    """
    cut = isinstance(student, ModelPruned) and bool(student.maskbndict)
    if given == NONE or (given is None and not cut):
        return NONE
    if not cut:
        raise InputError(f"--hints {given}", "given for weights of no cut", "a pruned.pt, or none")
    assert isinstance(student, ModelPruned)
    where = given or student.ancestry[-1].get("weights", "")
    if given is None and not Path(where).is_file():
        training.LOGGER.warning(f"hints: none, since {where or 'the model before the cut'} is gone")
        return NONE
    try:
        kept_channels(load(where).model, student, student.maskbndict)
    except InputError as error:
        if given is None:  # another model lies there now
            training.LOGGER.warning(f"hints: none, {where} is not the model that was cut ({error})")
            return NONE
        raise InputError(f"--hints {given}", *error.parts[1:]) from error
    return str(Path(where).absolute())


class Finetuning(training.Hooks):
    """Sees that what is trained is the pruned model, and has those look on who know more.

    Attributes:
        shapes: tensor name to shape; filled when the model exists.
        masks: of its single weights.
        hints: None without hints, and once they have ended.
        teacher: None without --teacher.
        start: mAP50-95 of the pruned model before the training; None where it was not measured.
        lost: the training ended below it.

    Args:
        source: the pruned model; None if its weights are random.
        measures: validate it before the first epoch, and say if the training was too short; False
            for a training of slim, which says it of the whole run.
    """

    def __init__(self, source: nn.Module | None, *, measures: bool = True) -> None:
        self.source, self.measures = source, measures
        self.start: float | None = None
        self.lost = False
        self.hints: Hints | None = None
        self.teacher: Teacher | None = None
        self.masks: WeightMasks = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def hyperparameters(self, run: training.Run, hyp: dict[str, Any]) -> dict[str, Any]:
        times = getattr(run.opt, "lr_times", 1.0)  # an older slim has no such option
        return hyp | {"lr0": hyp["lr0"] * times}

    def on_optimizer(
        self, run: training.Run, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        plan = run.folder / FINETUNED
        if run.resumed:
            self.shapes = shapes(build_model(plan, nc=model.yaml["nc"]))
        elif self.source is not None:
            self.shapes = shapes(self.source)
            check_transfer(model, self.source)
        else:
            self.shapes = shapes(build_model(run.opt.cfg, nc=model.yaml["nc"]))
        check_shapes(model, self.shapes, "the model that is to be trained")
        hold_masks(model, optimizer)
        self.masks = masks_of(model)
        if run.is_main and not run.resumed:
            write_aside(plan, write_yaml(pruned_yaml(model)).encode())
        if getattr(run.opt, "teacher", None):  # an older run has no such option
            self.teacher = Teacher(load(run.opt.teacher).model, model, optimizer)
        hints = getattr(run.opt, "hints", NONE)
        if run.resumed and hints != NONE and not Path(hints).is_file():
            training.LOGGER.warning(f"hints: none from here on, since {hints} is gone")
        elif hints != NONE:
            assert isinstance(self.source, ModelPruned)
            self.hints = Hints(load(hints).model, model, self.source.maskbndict)

    def on_resume(self, run: training.Run, state: dict[str, Any]) -> None:
        self.start = state.get("start")
        if self.teacher:
            self.teacher.load_state(state["adapters"])

    def on_epoch_start(self, run: training.Run) -> None:
        if run.epoch == 0 and self.start is None and self.measures:
            self.start = self.before(run)
        if self.teacher:
            self.teacher.attach()
        if self.hints and self.hints.weight(run.progress) == 0:
            self.hints = None
        if self.hints:
            self.hints.attach()

    def before(self, run: training.Run) -> float | None:
        """mAP50-95 before the training; None for random weights, and on several GPUs, which wait.

        The random numbers of the training are left as they are.
        """
        if self.source is None or not run.is_alone:
            return None
        training.LOGGER.info("\nfinetune: validating the model before the first epoch")
        with same_generators():
            accuracy = evaluate(
                self.source,
                data.read_data(run.opt.data),
                imgsz=run.opt.imgsz,
                workers=run.opt.workers,
                device=str(run.opt.device),
            )
        return accuracy.map

    def loss(self, run: training.Run, outputs: Any, loss: torch.Tensor) -> torch.Tensor:
        if self.hints:
            loss = loss + self.hints.loss(run.progress)
        if self.teacher:
            loss = loss + self.teacher.loss(outputs) * len(self.teacher.seen["images"])
        return loss

    def on_validation(self, run: training.Run) -> None:
        for looks_on in (self.hints, self.teacher):
            if looks_on:  # model and moving average are now copied and saved
                looks_on.detach()

    def on_epoch_end(self, run: training.Run) -> None:
        parts = self.teacher.means() if self.teacher else {}
        if self.hints:
            parts["hints"] = self.hints.mean()
        if parts:
            record(run, parts)

    def state(self) -> dict[str, Any]:
        adapters = {"adapters": self.teacher.state()} if self.teacher else {}
        return {"start": self.start, **adapters}

    def remains(self, state: dict[str, Any]) -> dict[str, Any]:
        return {}  # the adapters have done their work

    def finish(self, run: training.Run) -> None:
        weights = run.folder / "weights"
        for file in (weights / "last.pt", weights / "best.pt"):
            if file.is_file():
                trained = load(file).model
                check_shapes(trained, self.shapes, str(file))
                check_zeros(trained, self.masks, str(file))
        if not run.is_main:
            return
        print()
        text = f"the shapes of its {counted(len(self.shapes), 'tensor')} are those of the cut model"
        say(f"Checked: {weights / 'best.pt'} is as small as before the training: {text}.")
        if self.masks:
            zeros = counted(sum(int((~mask).sum()) for mask in self.masks.values()), "weight")
            say(f"Checked: {zeros} that {named('finegrained')} set to zero: still zero.")
        maps = [whole for _, whole in course(run.folder)]
        self.lost = self.start is not None and max(maps, default=0.0) < self.start
        text = too_few(self.start, maps)
        if text and self.measures:
            say(text)


def run(opt: argparse.Namespace, *, measures: bool = True) -> Path:
    """Train with the options that `parse_options` returned.

    Args:
        opt: the options.
        measures: see `Finetuning`.
    """
    return train(opt, hooks_of(opt, measures=measures))


def hooks_of(opt: argparse.Namespace, *, measures: bool = True) -> Finetuning:
    """Those of the model that the options name."""
    weights = opt.resume or opt.weights
    return Finetuning(load(weights).model if weights else None, measures=measures)


def train(opt: argparse.Namespace, hooks: Finetuning) -> Path:
    """Train with hooks; returns the run's folder."""
    return training.train(opt, hooks, command="finetune", build=build_heir(hooks.source))


def too_few(start: float | None, maps: Sequence[float]) -> str:
    """A sentence if a training was too short to win back what a cut had cost; else nothing.

    Args:
        start: mAP50-95 before the training; None: unknown.
        maps: epoch by epoch.
    """
    best = max(maps, default=0.0)
    if start is None or best >= start:
        return still_rising(maps)
    now, then = apart(best, start)
    text = f"Too few epochs: mAP50-95 is {now} at best, less than the {then} before the"
    return f"{text} training, so that the model before it is the better one. {MORE}"


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Tensor name to shape."""
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def check_shapes(model: nn.Module, expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Fail loudly if a model is not the pruned one.

    Raises:
        CheckFailed: a tensor is missing, superfluous or of another shape.
    """
    actual = shapes(model)
    for key in [*expected, *actual]:
        if actual.get(key) != expected.get(key):
            raise CheckFailed(
                f"{where}: {key} is {actual.get(key)}, the pruned model has {expected.get(key)}"
            )


def check_transfer(model: nn.Module, source: nn.Module) -> None:
    """Fail loudly if the host did not take over every weight (it only logs "Transferred n/m").

    Raises:
        CheckFailed: a tensor differs from the checkpoint's.
    """
    state = model.state_dict()
    for key, value in source.state_dict().items():
        if "anchor" in key:  # given anew by --cfg, or by hyp's `anchors`
            continue
        if key not in state or not torch.equal(state[key].float().cpu(), value.float().cpu()):
            raise CheckFailed(
                f"{key} of the checkpoint did not reach the model that is to be trained"
            )
