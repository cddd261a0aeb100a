"""A sparse training that fails goes back, in the host's own loops, and one that fails on ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sparse_runs import (
    SMALL,
    Poison,
    after,
    board_steps,
    epochs_of,
    rows,
    saved_zeros,
    strengths_of,
)

from yolo_slim import load
from yolo_slim.cli import run
from yolo_slim.commands import sparse
from yolo_slim.host import checkpoint, hooks
from yolo_slim.sparsify.trained import kept_of

pytestmark = pytest.mark.usefixtures("one_thread")
EPOCHS = 5
SAID = {
    ("auto",): "aiming at 45% of the channels",
    ("0.05",): "with sr 0.015, and as much less on beta",
    ("0.05", "--penalty", "prox"): "with sr 0.015, and as much less on beta",
}


@pytest.fixture
def argv(empty_folder: Path, tiny_yaml: dict[str, Any], shapes_yaml: Path) -> list[str]:
    """A sparse training but for --sr, in an empty folder."""
    (empty_folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml))
    argv = ["--st", "--cfg", "tiny.yaml", "--data", str(shapes_yaml), "--epochs", str(EPOCHS)]
    return [*argv, "--no-probe", *SMALL]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of going back, and of not doing so."""
    lines = [" ".join(text.split()) for text in caplog.messages]  # folded to the screen's width
    return [text for text in lines if "Back to" in text or "goes on" in text]


@pytest.mark.parametrize("sr", SAID, ids=["auto", "l1", "prox"])
def test_nan_in_mid_epoch(
    argv: list[str],
    sr: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It begins again from last.pt, to the bit, momentum too, and no epoch is lost or doubled."""
    poison = Poison(monkeypatch, epoch=3, batch=1, times=1)
    copy, seen = Path("copy.pt"), []
    after(monkeypatch, "on_back", lambda s, run, why: shutil.copy(run.last, copy), first=True)

    def compare(session: Any, run: Any) -> None:
        if not copy.is_file() or seen:
            return
        saved = checkpoint.read(copy)
        seen.append((saved["epoch"], run.epoch, run.saved))
        model, ema = poison.models[-1].state_dict(), run.ema.state_dict()
        for found, kept in ((model, saved["model"]), (ema, saved["ema"])):
            expected = kept.float().state_dict()
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in found)
        now, then = poison.optimizers[-1].state_dict()["state"], saved["optimizer"]["state"]
        assert len(then) == len(list(poison.models[-1].parameters()))
        assert all(torch.equal(now[i]["momentum_buffer"], then[i]["momentum_buffer"]) for i in then)

    after(monkeypatch, "on_epoch_start", compare)
    folder = sparse.main([*argv, "--sr", *sr])
    assert seen == [(2, 3, 2)]
    assert poison.left == 0
    (line,) = told(caplog)
    assert line == f"sparsity: the loss is nan. Back to epoch 3, {SAID[sr]} (1 of 3 times)"
    assert epochs_of(folder / "sparsity.csv") == list(range(EPOCHS))
    assert epochs_of(folder / "results.csv") == list(range(EPOCHS))
    assert load(folder / "weights" / "last.pt").epoch == -1
    if sr != ("auto",):
        expected = [0.05 * (1 - 0.9 * i / EPOCHS) * (1 if i < 3 else 0.3) for i in range(EPOCHS)]
        np.testing.assert_allclose(strengths_of(folder), expected, rtol=1e-4)


@pytest.mark.parametrize("epoch", [2, 5], ids=["on the way", "held"])
def test_auto_then_aims_at_less(
    argv: list[str], epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three quarters of 60%, and that is what is at zero in the end: also of zeros that were held.

    What is let go comes back by its gradient, but for the few that get none in what is left.
    """
    Poison(monkeypatch, epoch=epoch, batch=1, times=1)
    names: list[str] = []
    after(monkeypatch, "finish", lambda session, run: names.extend(session.penalty.names))
    folder = sparse.main([*argv, "--sr", "auto", "--round-to", "1", "--epochs", "6"])
    last = folder / "weights" / "last.pt"
    assert saved_zeros(last, names) == pytest.approx(0.45, abs=0.02 if epoch == 5 else 0.01)
    assert kept_of(load(last), "penalty", "auto", "percent") == pytest.approx(0.45)  # for prune.py


def test_a_resumed_run_stays_as_weak(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails in epoch 1, is interrupted when epoch 3 begins, and is gone on with."""

    def stop(session: Any, run: Any) -> None:
        if run.epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Poison(patch, epoch=1, batch=1, times=1)
        after(patch, "on_epoch_start", stop)
        sparse.main([*argv, "--sr", "0.05"])
    ended: list[tuple[list[int], int]] = []
    after(
        monkeypatch, "finish", lambda session, run: ended.append((session.backs, session.weakened))
    )
    folder = sparse.main(["--resume"])
    assert ended == [([0], 1)]
    assert epochs_of(folder / "sparsity.csv") == list(range(EPOCHS))
    factors = [1.0, 0.3, 0.3, 0.3, 0.3]
    expected = [0.05 * (1 - 0.9 * i / EPOCHS) * factor for i, factor in enumerate(factors)]
    np.testing.assert_allclose(strengths_of(folder), expected, rtol=1e-4)


def test_nan_before_there_is_a_checkpoint(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison = Poison(monkeypatch, epoch=0, batch=1, times=1)
    folder = sparse.main([*argv, "--sr", "auto", "--epochs", "2"])
    (line,) = told(caplog)
    assert line.startswith("sparsity: the loss is nan. Back to the start, aiming at 45%")
    assert len(poison.models) == 2
    assert epochs_of(folder / "sparsity.csv") == epochs_of(folder / "results.csv") == [0, 1]


@pytest.mark.parametrize("epoch", [0, 2])
def test_the_fourth_time_is_the_end(
    argv: list[str],
    epoch: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture,
) -> None:
    Poison(monkeypatch, epoch=epoch, batch=1, times=9)
    assert run("sparse", [*argv, "--sr", "0.05"]) == 1
    assert len(told(caplog)) == 3
    for number, sr in enumerate(("0.015", "0.0045", "0.00135"), 1):
        assert told(caplog)[number - 1].endswith(
            f"with sr {sr}, and as much less on beta ({number} of 3 times)"
        )
    folder = Path("runs/train/exp")
    last = folder / "weights" / "last.pt"
    good = f"{last} (epoch {epoch})" if epoch else "none"
    assert capsys.readouterr().err.splitlines()[-1] == (
        "failed: sparse training: the loss is nan, for the 4th time, so that lr0 or the data may "
        f"be the cause; last good checkpoint: {good}"
    )
    if epoch:
        found = load(last)
        assert found.epoch == epoch - 1
        assert all(torch.isfinite(value).all() for value in found.model.state_dict().values())
        assert epochs_of(folder / "sparsity.csv") == epochs_of(folder / "results.csv") == [0, 1]
    else:
        assert not last.exists()


def report_(monkeypatch: pytest.MonkeyPatch, map50s: list[float]) -> None:
    """Let the host's validation, which runs, report these mAP50s; at the end the last one again."""
    original, left = hooks.host.validate.run, iter(map50s)

    def validate(*args: Any, **kwargs: Any) -> Any:
        (precision, recall, _, *rest), *others = original(*args, **kwargs)
        return (precision, recall, next(left, map50s[-1]), *rest), *others

    monkeypatch.setattr(hooks.host.validate, "run", validate)


@pytest.mark.parametrize(
    ("map50s", "rerun", "saved"),
    [
        # two epochs after the warm-up of 3: neither is saved, the run goes back behind both
        ([0.6, 0.6, 0.6, 0.6, 0.1, 0.1, 0.5, 0.5, 0.5], [4, 5], [0, 1, 2, 3, 3, 4, 5, 6]),
        ([0.6, 0.6, 0.6, 0.6, 0.1, 0.5, 0.5], [], [0, 1, 2, 3, 3, 5, 6]),  # a dip
        # what was reached in the first quarter counts for nothing; the last one falls, too
        ([0.6, 0.1, 0.1, 0.6, 0.6, 0.6, 0.1], [], [0, 1, 2, 3, 4, 5, 6]),
    ],
    ids=["collapse", "dip", "warm-up"],
)
def test_map_that_falls(
    argv: list[str],
    map50s: list[float],
    rerun: list[int],
    saved: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The mAP50s are given, the loop and all else is real."""
    report_(monkeypatch, map50s)
    found: list[int] = []
    after(monkeypatch, "on_epoch_start", lambda s, run: found.append(run.saved))
    after(monkeypatch, "finish", lambda s, run: found.append(s.guard.low))
    folder = sparse.main([*argv, "--sr", "0.05", "--epochs", "7"])
    kept = dict(enumerate(strengths_of(folder)))
    assert list(kept) == epochs_of(folder / "sparsity.csv") == epochs_of(folder / "results.csv")
    for epoch, sr in kept.items():
        factor = 0.3 if rerun and epoch >= rerun[0] else 1.0
        assert sr == pytest.approx(0.05 * (1 - 0.9 * epoch / 7) * factor, rel=1e-4)
    if rerun:
        (line,) = told(caplog)
        assert "mAP50 fell to 0.100, under half of its best, 0.600. Back to epoch 4, with" in line
        expected = [-1, 0, 1, 2, 3, 3, 3, 4, 5]
    else:
        assert not told(caplog)
        expected = [-1, *saved[:-1]]
    assert found[:-1] == expected
    column = [float(row["metrics/mAP_0.5"]) for row in rows(folder / "results.csv")]
    for tag in ("sparsity/sr", "metrics/mAP_0.5"):
        assert board_steps(folder, tag) == list(range(7))
    assert column == (map50s if not rerun else map50s[:4] + map50s[6:])


def test_a_fall_that_a_weaker_penalty_does_not_prevent(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes back once, falls again, and goes on to its end: with a warning, and saved."""
    report_(monkeypatch, [0.6, 0.6, 0.6, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4])
    saved: list[int] = []
    after(monkeypatch, "on_epoch_start", lambda s, run: saved.append(run.saved))
    folder = sparse.main([*argv, "--sr", "0.05", "--epochs", "8"])
    back, on = told(caplog)
    assert "mAP50 fell to 0.100, under half of its best, 0.600. Back to epoch 4, with" in back
    assert on == (
        "sparsity: mAP50 fell to 0.100, under half of its best, 0.600; a weaker penalty does not "
        "prevent it, so the run goes on. Look whether it comes back."
    )
    assert saved == [-1, 0, 1, 2, 3, 3, 3, 3, 5, 6]
    assert epochs_of(folder / "sparsity.csv") == list(range(8))
    factors = [1.0] * 4 + [0.3] * 4
    expected = [0.05 * (1 - 0.9 * i / 8) * factor for i, factor in enumerate(factors)]
    np.testing.assert_allclose(strengths_of(folder), expected, rtol=1e-4)
