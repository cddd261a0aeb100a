"""Where results lie: each step by default takes up the newest result of the step before."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from yolo_slim.as_called import as_called, this_call
from yolo_slim.errors import InputError
from yolo_slim.files import check_writable, write_aside
from yolo_slim.text import say

STATE = "slim.json"  # in the folder of a run of slim: its options, and the rounds that are done
RESULTS = "results.csv"  # YOLOv5's, in a training's folder: one row an epoch
CALLED = "command.json"  # in a run's folder: the command line, and the versions of packages
PACKAGES = ("yolo-slim", "torch", "torchvision", "yolov5", "onnxruntime")
PAGE = "report.html"  # in a run's folder: for people
CURVE, CURVE_POINTS = "curve.json", "curve.csv"  # of a run of curve: the first is written last
SECRET = "token"  # the end of the names of options that nobody else should read
LAST = "**/weights/last.pt"  # below runs/: of each training
_told: set[Path] = set()
_made: dict[Path, list[Path]] = {}  # by a run's folder: it and those around it that it made
FINETUNED = "pruned.yaml"  # in a run's folder: what is trained, and the mark of a finetuning


def newest(pattern: str, *, where: str, made_by: str, beside: str = "") -> Path:
    """The newest file under runs/ that matches.

    Args:
        pattern: glob below runs/, such as "**/weights/last.pt".
        where: what the error calls it, such as "--weights".
        made_by: the command that makes such a file.
        beside: a file name that must lie in the run's folder (that of the match, or its parent).

    Raises:
        InputError: there is none.
    """
    files = [
        p
        for p in Path("runs").glob(pattern)
        if not beside or (p.parent / beside).is_file() or (p.parent.parent / beside).is_file()
    ]
    if not files:
        got = "no file named and none found in runs/"
        raise InputError(where, got, f"a file, or run {made_by}")
    return max(files, key=lambda p: p.stat().st_mtime)


def tell_taken(what: str, file: Path, *, not_given: str = "--weights not given") -> None:
    """Say, once a process, which file is taken where the user named none, and why this one.

    Args:
        what: why, such as "the newest pruned.pt".
        file: that is taken.
        not_given: what the user left open.
    """
    when = datetime.fromtimestamp(file.stat().st_mtime)
    text = f"{not_given}: {file}, {what} in runs/, of {when:%Y-%m-%d %H:%M}"
    if file.absolute() not in _told and int(os.getenv("RANK", "-1")) < 1:
        say(text)
    _told.add(file.absolute())


def sparse_run(*, where: str) -> Path:
    """What to cut of the newest sparse training: see `checkpoint_to_cut`.

    Raises:
        InputError: there is none.
    """
    trainings = [last.parent.parent for last in Path("runs").glob(LAST)]
    sparse = [folder for folder in trainings if was_sparse(folder)]
    if sparse:
        return checkpoint_to_cut(max(sparse, key=ended))
    made_by = as_called("sparse", "--st")
    plain = max(filter(was_plain, trainings), key=ended, default=None)
    if plain is None:
        got = "no file named and none found in runs/"
        raise InputError(where, got, f"a file, or run {made_by}")
    got = f"not given, and {plain} was trained without --st"
    weights = shlex.quote(str(trained_file(plain)))
    raise InputError(where, got, f"--weights {weights}, or a training by {made_by}")


def newer_plain_run(weights: Path) -> Path | None:
    """What could be cut of a training that is newer than a sparse one but has no penalty."""
    chosen = ended(weights.parent.parent)
    trainings = [last.parent.parent for last in Path("runs").glob(LAST)]
    newer = [folder for folder in trainings if was_plain(folder) and ended(folder) > chosen]
    return trained_file(max(newer, key=ended)) if newer else None


def was_sparse(folder: Path) -> bool:
    """True for a training with --st; one without may have been written over it (--exist-ok)."""
    return (folder / "sparsity.csv").is_file() and not said(folder, "st: false")


def was_plain(folder: Path) -> bool:
    """True for a training without --st which is not that of a cut model."""
    trained = (folder / "opt.yaml").is_file() and not (folder / FINETUNED).is_file()
    return trained and not was_sparse(folder)


def ended(folder: Path) -> float:
    """When the last epoch of a training was saved, or its end."""
    return (folder / "weights" / "last.pt").stat().st_mtime


def said(folder: Path, option: str) -> bool:
    """True if a line of a training's opt.yaml is this one."""
    file = folder / "opt.yaml"
    return file.is_file() and option in file.read_text(errors="ignore").splitlines()


def trained_file(folder: Path) -> Path:
    """The result of a training: its best epoch; the last one where it kept no best."""
    best = folder / "weights" / "best.pt"
    return best if best.is_file() else best.with_name("last.pt")


def checkpoint_to_cut(folder: Path) -> Path:
    """Which checkpoint of a training is to be cut.

    With --sr auto best.pt is of an epoch that is as sparse as the last one, see `SparseSession`;
    with a number it often is an early epoch with little at zero.
    """
    return trained_file(folder) if said(folder, "sr: auto") else folder / "weights" / "last.pt"


def new_run(project: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Make the next free folder project/name, project/name2, ... as YOLOv5 does.

    Raises:
        InputError: the folder cannot be made or written.
    """
    base = Path(project) / name
    folder, n = base, 1
    while folder.exists() and not exist_ok:
        n += 1
        folder = base.with_name(f"{base.name}{n}")
    check_writable(folder)
    ours = [p for p in map(Path.absolute, (folder, *folder.parents)) if not p.exists()]
    _made[folder.absolute()] = ours
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def record_call(folder: Path) -> None:
    """Note in a run's folder how it was called, and with which versions; once a run.

    Raises:
        InputError: it cannot be written.
    """
    if not this_call() or (folder / CALLED).is_file():
        return
    words = shlex.split(this_call())
    if "--resume" in words:  # of curve: the other options are as they were
        place = words.index("--resume")
        value = words[place + 1 : place + 2]
        del words[place : place + 1 + bool(value and not value[0].startswith("-"))]
    content = {
        "command": shlex.join(without_secrets(words)),
        "in": str(Path.cwd()),
        "versions": versions(),
    }
    write_aside(folder / CALLED, json.dumps(content, indent=2).encode())


def without_secrets(words: list[str]) -> list[str]:
    """A command line whose tokens (of YOLOv5's loggers) are not told: pages are sent to others.

    Example:
        >>> without_secrets(["slim", "--hf_token", "abc", "--neptune_token=def", "--epochs", "3"])
        ['slim', '--hf_token', '...', '--neptune_token=...', '--epochs', '3']
    """
    told = list[str]()
    for word in words:
        name, equals, _ = word.partition("=")
        secret = bool(told) and told[-1].startswith("-") and told[-1].endswith(SECRET)
        if name.startswith("-") and name.endswith(SECRET) and equals:
            word = f"{name}=..."
        told.append("..." if secret else word)
    return told


def versions() -> dict[str, str]:
    """Package to version, of what a result depends on."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def training_to_resume(place: str | bool, *, made_by: str) -> Path:
    """The last.pt of the training that --resume names, or of the newest one of a command.

    Args:
        place: its last.pt or its folder; True: the newest under runs/.
        made_by: sparse or finetune. What belongs to a run of slim is left to slim.

    Raises:
        InputError: there is none, or none that has saved an epoch.
    """
    if place is True:
        wanted = [
            file
            for file in Path("runs").glob(LAST)
            if (file.parents[1] / "opt.yaml").is_file()
            and (file.parents[1] / FINETUNED).is_file() == (made_by == "finetune")
            and not (file.parents[2] / STATE).is_file()
        ]
        if not wanted:
            expected = f"a training that was interrupted; {as_called(made_by)} begins one"
            raise InputError("--resume", "no run to go on with found in runs/", expected)
        last = max(wanted, key=lambda file: file.stat().st_mtime)
        tell_taken("the newest training to go on with", last, not_given="--resume names no run")
        return last
    path = Path(str(place))
    for file in (path, path / "weights" / "last.pt", path / "last.pt"):
        if file.is_file():
            return file
    if any((folder / "opt.yaml").is_file() for folder in (path, *path.parents[:2])):
        raise InputError(f"--resume {path}", "none was saved yet", "a run whose first epoch ended")
    got = "a folder without a training" if path.is_dir() else "no such file"
    raise InputError(f"--resume {path}", got, "the folder of a training, or its last.pt")


def run_to_resume(place: str | bool, made_by: str) -> Path:
    """The folder of `training_to_resume`."""
    return training_to_resume(place, made_by=made_by).absolute().parents[1]


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """A run's folder in which a failure has left nothing goes, and those made for it go, too.

    What was there before `new_run` stays.
    """
    try:
        yield
    except BaseException:
        with suppress(OSError):  # one that holds something: it and those around it stay
            for made in _made.get(folder.absolute(), []):
                made.rmdir()
        raise
