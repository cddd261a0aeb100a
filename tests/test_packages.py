"""A package that is missing or does not import: one line, before anything is converted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from yolo_slim.cli import run
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.packages import EXTRAS, MAKERS, check_installed

WHY = "libfoo.so.1: cannot open shared object file: No such file or directory"
FORMATS_OF = {  # a package, and a format that needs it
    "onnx": "onnx",
    "onnxslim": "litert",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "pnnx": "ncnn",
    "ai_edge_litert": "litert",
}
SUFFIXES = {  # a package, and the format whose files it runs
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "ai_edge_litert": "litert",
}


def forget(name: str, patch: pytest.MonkeyPatch) -> None:
    """Let a package be imported anew; afterwards it is the old one."""
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        patch.delitem(sys.modules, module)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """hide(name): as if a package was not installed."""

    def hidden(name: str) -> None:
        forget(name, monkeypatch)
        monkeypatch.setitem(sys.modules, name, None)

    return hidden


@pytest.fixture
def damage(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], None]:
    """damage(name): a package of this name stands first on the path, and lacks a library."""

    def damaged(name: str) -> None:
        package = tmp_path_factory.mktemp("site") / name
        package.mkdir()
        (package / "__init__.py").write_text(f"raise ImportError({WHY!r})\n")
        forget(name, monkeypatch)
        monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])

    return damaged


@pytest.fixture
def never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """No format may be written: the refusal has to come before."""

    def write(self: object, model: object, options: object) -> bytes:
        raise AssertionError("converted before it was refused")

    monkeypatch.setattr("yolo_slim.deploy.formats.Format.write", write)


def skip_without(name: str) -> None:
    for module in FORMATS[name].needs:
        pytest.importorskip(module)


def pip_of(name: str) -> str:
    extra = EXTRAS.get(name)
    return f'pip install "yolo-slim[{extra}]"' if extra else f"pip install {name}"


def told(how: str, name: str) -> str:
    """What follows the place in the line on a package that a fixture hides or damages."""
    if how == "hide":
        return f"{name} is not installed, expected {pip_of(name)}"
    pip = f"pip install --force-reinstall {name.replace('_', '-')}"
    return f"{name} cannot be imported ({WHY}), expected {pip}"


@pytest.mark.parametrize(("name", "row"), FORMATS_OF.items())
@pytest.mark.parametrize("how", ["hide", "damage"])
@pytest.mark.usefixtures("never_written")
def test_export_without_a_package(
    how: str,
    name: str,
    row: str,
    refused: Callable,
    options: dict[str, list],
    request: pytest.FixtureRequest,
) -> None:
    skip_without(row)
    request.getfixturevalue(how)(name)
    line = refused("export", *options["export"], "--include", row)
    assert line == f"error: --include {row}: {told(how, name)}"


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("openvino", ["--runtime", "openvino"]),
        ("ncnn", ["--runtime", "ncnn"]),
        ("pnnx", ["--runtime", "ncnn", "--prepare", "w.zip"]),
    ],
)
def test_profile_without_a_package(
    name: str, argv: list[str], hide: Callable, refused: Callable, tiny_checkpoint: Path
) -> None:
    """OpenVINO's workload is made without OpenVINO; ncnn's only with pnnx."""
    skip_without(argv[1])
    hide(name)
    line = refused("profile", tiny_checkpoint, *argv)
    assert line == f"error: --runtime {argv[1]}: {told('hide', name)}"


@pytest.mark.usefixtures("never_written")
def test_8_bits_need_nncf_that_imports(
    damage: Callable, refused: Callable, options: dict[str, list]
) -> None:
    skip_without("openvino")
    pytest.importorskip("nncf")
    damage("nncf")
    line = refused("export", *options["export"], "--include", "openvino", "--int8")
    assert line.startswith(f"error: --int8 --include openvino: nncf cannot be imported ({WHY})")


@pytest.mark.parametrize("command", ["val", "detect", "bench"])
@pytest.mark.parametrize(("name", "row"), SUFFIXES.items())
@pytest.mark.parametrize("how", ["hide", "damage"])
def test_files_whose_runtime_does_not_import(
    command: str,
    name: str,
    row: str,
    how: str,
    request: pytest.FixtureRequest,
    refused: Callable,
    tiny_model: nn.Module,
    shapes_yaml: Path,
    tmp_path: Path,
) -> None:
    """A whole file is not called a damaged one."""
    skip_without(row)
    file = FORMATS[row].put(
        tmp_path, "best", FORMATS[row].write(tiny_model, ExportOptions((64, 64)))
    )
    request.getfixturevalue(how)(name)
    argv = [file] if command == "bench" else ["--weights", file]
    argv += ["--data", shapes_yaml] if command == "val" else []
    line = refused(command, *argv)
    assert line.startswith(f"error: {file}")
    assert line.endswith(f": {told(how, name)}")


@pytest.mark.parametrize("argv", [[], ["--runtime", "onnx"]], ids=["usual", "named"])
@pytest.mark.parametrize("how", ["hide", "damage"])
@pytest.mark.usefixtures("never_written")
def test_bench_exports_with_packages_that_import(
    argv: list[str],
    how: str,
    request: pytest.FixtureRequest,
    refused: Callable,
    tiny_checkpoint: Path,
) -> None:
    """A checkpoint is timed in ONNX Runtime by default, too."""
    request.getfixturevalue(how)("onnxslim")
    line = refused("bench", tiny_checkpoint, "--imgsz", 64, *argv)
    assert line == f"error: --runtime onnx: {told(how, 'onnxslim')}"


def test_nothing_is_imported_to_see_what_is_installed(damage: Callable) -> None:
    damage("onnxslim")
    check_installed("here", ["onnxslim"])


@pytest.mark.parametrize("how", ["hide", "damage"])
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("command", ["prune", "slim", "finegrained", "profile"])
def test_commands_that_export_on_their_way(
    command: str,
    name: str,
    how: str,
    request: pytest.FixtureRequest,
    refused: Callable,
    tiny_checkpoint: Path,
    shapes_yaml: Path,
) -> None:
    """slim times its result after all trainings: the refusal has to come before them."""
    request.getfixturevalue(how)(name)
    argv = {
        "prune": ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--latency", 0.6],
        "slim": ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--epochs", 1],
        "finegrained": [tiny_checkpoint],
        "profile": [tiny_checkpoint],
    }
    line = refused(command, *argv[command], "--imgsz", 64)
    assert line.endswith(f": {told(how, name)}")


def test_an_onnx_file_is_timed_without_onnx(
    hide: Callable,
    tiny_model: nn.Module,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its parameters are not counted, and a line says why."""
    row = FORMATS["onnx"]
    file = row.put(tmp_path, "best", row.write(tiny_model, ExportOptions((64, 64))))
    hide("onnx")
    forget("yolo_slim.measure.onnx_cost", monkeypatch)
    assert run("bench", [str(file), "--repeats", "2", "--no-memory"]) == 0
    told = f"note: {file}: its parameters and MACs are not counted: onnx is not installed\n"
    assert told in capfd.readouterr().err
