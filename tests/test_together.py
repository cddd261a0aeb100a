"""Files appear at once or not at all, whatever stops the writing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from yolo_slim import InputError
from yolo_slim.files import write_aside, write_folder_aside
from yolo_slim.runs import new_run, removed_if_empty
from yolo_slim.together import together

STOPS = [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
by_name = pytest.mark.parametrize("stop", STOPS, ids=lambda stop: type(stop).__name__)


def held(folder: Path) -> dict[str, str]:
    """What lies in a folder, hidden or not: path to content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException, int, bool], None]:
    """stop_at(error, n, done): the nth renaming of all raises, when it is done or before it."""

    def at(error: BaseException, number: int, done: bool) -> None:
        replace, calls = Path.replace, iter(range(10**6))

        def stopping(self: Path, target: Path) -> Path:
            stops = next(calls) == number
            if stops and not done:
                raise error
            result = replace(self, target)
            if stops:
                raise error
            return result

        monkeypatch.setattr(Path, "replace", stopping)

    return at


@by_name
def test_a_file_that_is_interrupted(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.onnx").write_text("old")

    def fsync(file: int) -> None:
        raise stop

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises((KeyboardInterrupt, InputError)):
        write_aside(tmp_path / "best.onnx", b"new")
    assert held(tmp_path) == {"best.onnx": "old"}


@by_name
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("done", [False, True])
def test_a_folder_that_is_interrupted(
    stop: BaseException, number: int, done: bool, tmp_path: Path, stop_at: Callable
) -> None:
    """Its two files get their names, the old folder moves away, the new one in its place."""
    old = tmp_path / "best_openvino_model"
    old.mkdir()
    (old / "mine.txt").write_text("old")
    stop_at(stop, number, done)
    with pytest.raises((KeyboardInterrupt, InputError)) as error:
        write_folder_aside(old, {"best.xml": b"new", "best.bin": b"new"})
    assert held(tmp_path) == {"best_openvino_model/mine.txt": "old"}
    assert list(tmp_path.iterdir()) == [old]
    if isinstance(error.value, InputError):
        assert str(error.value).startswith(str(tmp_path))
        assert "/." not in str(error.value)


def test_a_folder_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "best_ncnn_model"
    write_folder_aside(path, {"old": b"1", "both": b"2"})
    assert write_folder_aside(path, {"both": b"3", "new": b"4"}) == path
    assert held(tmp_path) == {"best_ncnn_model/both": "3", "best_ncnn_model/new": "4"}
    usual = tmp_path / "usual"
    usual.mkdir()
    assert path.stat().st_mode == usual.stat().st_mode


@by_name
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("done", [False, True])
def test_several_files_are_all_new_or_all_old(
    stop: BaseException, number: int, done: bool, tmp_path: Path, stop_at: Callable
) -> None:
    """a and the folder b are replaced, c is new: five renamings."""
    before = {"a": "old a", "b/b": "old b", "kept": "kept"}
    write_folder_aside(tmp_path / "b", {"b": b"old b"})
    (tmp_path / "a").write_text("old a")
    (tmp_path / "kept").write_text("kept")

    def replace_all() -> None:
        with together(tmp_path) as new:
            (new / "b").mkdir()
            for name in ("a", "b/x", "c"):
                (new / name).write_text("new")
            stop_at(stop, number, done)

    with pytest.raises((KeyboardInterrupt, InputError)):
        replace_all()
    assert held(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "kept"]


def test_several_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with together(tmp_path) as new:
        write_aside(new / "a", b"new")
        write_aside(new / "b", b"new")
        assert (tmp_path / "a").read_text() == "old"
    assert held(tmp_path) == {"a": "new", "b": "new"}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    write_folder_aside(tmp_path / "best.onnx", {"mine": b"old"})
    with pytest.raises(InputError) as error, together(tmp_path) as new:
        write_aside(new / "best.onnx", b"new")
    assert str(error.value).startswith(f"{tmp_path / 'best.onnx'}: a folder, expected")
    assert held(tmp_path) == {"best.onnx/mine": "old"}


def test_what_cannot_be_put_back_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second renaming on the file system takes none: the old file stays, if hidden."""
    (tmp_path / "a").write_text("old")
    replace, calls = Path.replace, iter(range(10**6))

    def failing(self: Path, target: Path) -> Path:
        if next(calls):
            raise OSError(errno.EROFS, "Read-only file system")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(InputError), together(tmp_path) as new:
        (new / "a").write_text("new")
    assert list(held(tmp_path).values()) == ["old"]


def fail_in(folder: Path) -> None:
    with pytest.raises(ValueError, match="a failure"), removed_if_empty(folder):
        raise ValueError("a failure")


def test_a_failed_run_removes_the_folders_that_it_made(empty_folder: Path) -> None:
    Path("there").mkdir()
    fail_in(new_run("there/small/p", "exp"))
    assert list(empty_folder.rglob("*")) == [empty_folder / "there"]
    fail_in(new_run(empty_folder / "absolute", "exp"))
    assert list(empty_folder.rglob("*")) == [empty_folder / "there"]


def test_a_failed_run_leaves_what_was_there(empty_folder: Path) -> None:
    """Empty folders of the user's, also those that a run writes into, and what was written."""
    Path("runs/export/exp").mkdir(parents=True)
    fail_in(new_run("runs/export", "exp", exist_ok=True))
    assert Path("runs/export/exp").is_dir()
    fail_in(new_run("runs/export", "exp"))
    assert sorted(Path("runs/export").iterdir()) == [Path("runs/export/exp")]
    folder = new_run("small/p", "exp")
    (folder.parent / "mine").touch()
    fail_in(folder)
    assert list(Path("small").rglob("*")) == [Path("small/p"), Path("small/p/mine")]
