"""Mends that let yolov5 7.0.14 run on today's torch, numpy and Pillow, and keep it offline.

YOLOv5's source is left as it is. `mend()` is idempotent; every module of `yolo_slim.host` calls it
before the first `import yolov5`. Each mend says what broke, since when, and when it can go.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import re
import sys
import time
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.host.metadata import literal
from yolo_slim.packages import report_nothing_home

TESTED_HOST = "7.0.14"


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Set attributes of a module or class for the length of a block, and put the old ones back."""
    old = {name: getattr(owner, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in old.items():
            setattr(owner, name, value)


@contextmanager
def imported_as(modules: Mapping[str, Any]) -> Iterator[None]:
    """In the block an import of each of these names gives this module; then it is as before."""
    old = {name: sys.modules.get(name) for name in modules}
    try:
        sys.modules.update(modules)
        yield
    finally:
        for name, module in old.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def mend() -> None:
    """Apply all mends, once a process."""
    if getattr(mend, "done", False):
        return
    mend.done = True  # type: ignore[attr-defined]
    _go_offline()
    _supply_pkg_resources()
    _supply_numpy_trapz()
    _supply_pillow_getsize()
    _quiet_torch()
    _check_torchvision()
    begun = time.time()
    _mend_host()
    _switch_sync_off(begun)


def _go_offline() -> None:
    """`import ultralytics` (a dependency of the host) opens a socket to see whether it is online.

    Its requirement check may also run pip; others report home. All obey variables, which must be
    set before the first import; a value that the user set stays.
    """
    report_nothing_home()
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")  # it tells of its own settings when it begins
    os.environ.setdefault("YOLOv5_AUTOINSTALL", "false")
    os.environ.setdefault("WANDB_MODE", "offline")  # wandb.login() at import waits 30 s for a key
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations asks for its version


def _supply_pkg_resources() -> None:
    """The host imports pkg_resources, which setuptools 82 (2026) removed.

    It uses parse_version alone. Can go when the host imports packaging.version.
    """
    if "pkg_resources" in sys.modules or importlib.util.find_spec("pkg_resources"):
        warnings.filterwarnings("ignore", message=".*pkg_resources is deprecated.*")
        return
    from packaging.version import parse

    module = types.ModuleType("pkg_resources")
    module.parse_version = parse  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = module


def _supply_numpy_trapz() -> None:
    """utils/metrics.py integrates with np.trapz, which numpy 2.4 removed.

    np.trapezoid (numpy 2.0) is the same function. Can go when the host calls it.
    """
    import numpy as np

    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # type: ignore[attr-defined]


def _supply_pillow_getsize() -> None:
    """utils/plots.py measures labels with FreeTypeFont.getsize, which Pillow 10 (2023) removed.

    Can go when the host calls getbbox.
    """
    from PIL import ImageFont

    def getsize(self: ImageFont.FreeTypeFont, text: str) -> tuple[float, float]:
        _, _, width, height = self.getbbox(text)
        return width, height

    if not hasattr(ImageFont.FreeTypeFont, "getsize"):
        ImageFont.FreeTypeFont.getsize = getsize  # type: ignore[attr-defined]


def _quiet_torch() -> None:
    """The host uses torch.cuda.amp.autocast and GradScaler, deprecated since torch 2.4.

    They work and warn at every call. Can go when the host uses torch.amp.
    """
    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\..*is deprecated.*")
    warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step\(\).*optimizer\.step\(\).*")


def _check_torchvision() -> None:
    """A torchvision that was built for another torch fails at its import, with a riddle.

    Raises:
        InputError: the two do not belong together, as a CPU-only torch and PyPI's torchvision.
    """
    import torch

    try:
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:
        from importlib.metadata import PackageNotFoundError, version

        try:
            pair = f"torchvision {version('torchvision')} beside torch {torch.__version__}"
        except PackageNotFoundError:
            pair = f"no torchvision beside torch {torch.__version__}"
        reason = " ".join(str(error).split())[:80]
        expected = "a pair, both from one index: see README.md, Install"
        raise InputError("torchvision", f"{pair} ({reason})", expected) from error
    del torchvision


def _switch_sync_off(begun: float) -> None:
    """The import of ultralytics writes its settings where there are none, with analytics on.

    Settings that were there before stay as the user has them. Needed as long as the host imports
    ultralytics.

    Args:
        begun: when its import began, seconds since 1970.
    """
    from ultralytics.utils import SETTINGS, SETTINGS_FILE

    if SETTINGS.get("sync") and Path(SETTINGS_FILE).stat().st_mtime >= begun:
        SETTINGS.update(sync=False)


def _mend_host() -> None:
    """Import the host and replace what asks the network or opens files unsafely.

    utils/ first: later modules take these names over with `from ... import`.
    """
    with replaced(inspect, stack=_file_names), _imported_later("seaborn"):
        import yolov5.utils.downloads as downloads  # and with it yolov5/__init__: most of the host

    downloads.attempt_download = local_file  # asks a model hub, then a release page
    downloads.attempt_download_from_hub = lambda *args, **kwargs: None  # asks even for local files

    import yolov5.utils.general as general

    general.ROOT = general.ROOT.resolve()  # is relative to the folder of the first import
    general.check_font = lambda *args, **kwargs: None  # fetches a font when it has none
    general.check_online = lambda: False  # opens sockets and waits 5 s for each
    general.check_requirements = lambda *args, **kwargs: True  # may run pip

    import yolov5.utils.plots as plots

    plots.check_font = general.check_font
    plots.check_requirements = general.check_requirements
    plots.check_pil_font = pil_font
    _mend_labels(plots.Annotator, plots.is_ascii)

    # The packages that import these names one after another (yolov5/__init__ imports half of the
    # host before us) hold their own references.
    import yolov5.models.common as common
    import yolov5.models.experimental as experimental
    import yolov5.utils.dataloaders as dataloaders

    for module in (general, common):  # val and detect are imported later and take general's
        module.non_max_suppression = without_time_limit(general, general.non_max_suppression)
    common.attempt_download_from_hub = downloads.attempt_download_from_hub
    common.check_requirements = general.check_requirements
    import yolov5.models.yolo  # noqa: F401  before: it takes over all names of common

    common.eval = literal  # it evaluates the names in an ONNX file
    experimental.attempt_download = local_file
    dataloaders.check_requirements = general.check_requirements


def _mend_labels(annotator: Any, is_ascii: Any) -> None:
    """utils/plots.py draws labels with OpenCV or with Pillow, and decides twice: by the text of the
    dict of names, in which Python escapes a no-break space, and by the label, which has it.

    A line break in a label with other than ASCII letters fails in Pillow's layout. Can go when the
    host decides once, and draws a label in one line.

    Args:
        annotator: the host's class.
        is_ascii: its function.
    """
    begin, draw = annotator.__init__, annotator.box_label

    @functools.wraps(begin)
    def __init__(self: Any, im: Any, *args: Any, **kwargs: Any) -> None:
        example = str(kwargs.get("example", ""))
        if is_ascii(example) and re.search(r"\\(x|u|U)[0-9a-f]", example):
            kwargs["example"] = example + "\u00a0"
        begin(self, im, *args, **kwargs)

    @functools.wraps(draw)
    def box_label(self: Any, box: Any, label: str = "", *args: Any, **kwargs: Any) -> None:
        draw(self, box, " ".join((label or "").split()), *args, **kwargs)

    annotator.__init__, annotator.box_label = __init__, box_label


def _file_names() -> list[types.SimpleNamespace]:
    """What utils/general.py asks inspect.stack for, to know the script that runs.

    The real one looks for each frame's module among all that are loaded: with torch among them that
    takes 1 to 2 s. Can go when the host does not ask at its import.
    """
    frame, frames = inspect.currentframe(), []
    while frame := frame and frame.f_back:
        frames.append(types.SimpleNamespace(filename=frame.f_code.co_filename))
    return frames


@contextmanager
def _imported_later(name: str) -> Iterator[None]:
    """Who imports a module within the block gets it when it is first used.

    utils/plots.py draws two of its pictures with seaborn, whose import takes 1 to 2 s. Can go when
    the host imports it there.
    """
    if name in sys.modules or not importlib.util.find_spec(name):
        yield
        return
    sys.modules[name] = _Later(name)
    try:
        yield
    finally:
        del sys.modules[name]


class _Later(types.ModuleType):
    """Stands for a module until something of it is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # the import itself asks for these
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self.__name__), attribute)


def without_time_limit(general: Any, function: Any) -> Any:
    """The host's NMS drops the rest of a batch after 0.5 s + 0.05 s an image, with a log line only.

    On a slow or busy machine that turns a good model's mAP into noise (0.67 read as 0.18 here).
    Within NMS the host's clock stands still. Can go when the host has no limit.
    """
    if hasattr(function, "__wrapped__"):
        return function

    @functools.wraps(function)
    def non_max_suppression(*args: Any, **kwargs: Any) -> Any:
        with replaced(general, time=types.SimpleNamespace(time=lambda: 0.0)):
            return function(*args, **kwargs)

    return non_max_suppression


def local_file(file: str | Path, *args: Any, **kwargs: Any) -> str:
    """The host's attempt_download, without the network.

    Raises:
        FileNotFoundError: there is no such file here.
    """
    path = Path(str(file).strip().replace("'", ""))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; weights are not downloaded, give a path")
    return str(path)


def pil_font(font: str | Path = "", size: int = 10) -> Any:
    """The host's check_pil_font with the font that matplotlib ships (DejaVu Sans)."""
    import matplotlib
    from PIL import ImageFont

    path = Path(font) if font and Path(font).exists() else None
    path = path or Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)
