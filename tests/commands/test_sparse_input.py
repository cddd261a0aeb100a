"""What a user can get wrong in a sparse training: exit code 2, one line, nothing written."""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from copy import deepcopy

import pytest
import torch
import yaml
from torch import nn

from yolo_slim import InputError, SparsityPenalty, load, save
from yolo_slim.commands import sparse, sparse_options
from yolo_slim.host import command_line
from yolo_slim.pruning.budget.target import PERCENT as DEFAULT
from yolo_slim.pruning.budget.target import ROUND_TO
from yolo_slim.sparsify.thinning import Thinning

SPARSE = [  # given with --st
    ("--sr -1", "--sr: -1.0, expected a finite number, 0 or more, or auto"),
    ("--sr nan", "--sr: nan, expected a finite number, 0 or more, or auto"),
    ("--sr inf", "--sr: inf, expected a finite number, 0 or more, or auto"),
    ("--sr abc", "--sr: 'abc', expected a number or auto"),
    ("--sr Auto", "--sr: 'Auto', expected a number or auto"),
    ("--sr 1e9", "--sr: 1e+09, expected at most "),
    ("--sr 1e9 --penalty prox --optimizer Adam", "--sr: 1e+09, expected at most "),
    ("--bias-sr -1", "--bias-sr: -1.0, expected a finite number, 0 or more"),
    ("--bias-sr inf", "--bias-sr: inf, expected a finite number, 0 or more"),
    ("--bias-sr auto", "'auto', expected a number, such as 0.5"),
    ("--percent -0.1", "--percent: -0.1, expected a share in [0, 1)"),
    ("--percent 1", "--percent: 1.0, expected a share in [0, 1)"),
    ("--percent 1.5", "--percent: 1.5, expected a share in [0, 1)"),
    ("--percent nan", "--percent: nan, expected a share in [0, 1)"),
    ("--penalty foo", "--penalty: invalid choice: 'foo' (choose from"),
    ("--round-to 0", "--round-to: 0, expected 1 or more"),
    ("--round-to 2.5", "--round-to: '2.5', expected a whole number"),
    ("--residual all", "--residual: invalid choice: 'all'"),
    ("--keep model.77", "--keep: 'model.77', which matches nothing"),
    ("--keep model.*", "model: no BatchNorm left by --keep, expected at least one"),
    ("--freeze 12", "--freeze: given with --st for all prunable layers, expected some that train"),
    ("--freeze 12 --sr 0.1", "--freeze: given with --st for all prunable layers"),
    (
        "--percent 0.9 --keep model.[4-9]",
        "--percent: 0.9, more than --keep, --freeze and one channel a layer leave",
    ),
    ("--percent 0.9 --freeze 8", "--percent: 0.9, more than --keep, --freeze and one channel a"),
    ("--percent 0.999", "--percent: 0.999, more than --keep, --freeze and one channel a layer"),
    ("--percent 0", "--percent: 0, expected more than 0"),
    ("--macs 1", "--macs: 1, expected less than 1"),
    ("--macs 0.5 --percent 0.6", "--macs: given besides --percent"),
    ("--resume x.pt --percent 0.5", "--percent: given with --resume"),
    ("--evolve", "--evolve: given with --st, expected one of the two"),
]
PLAIN = [
    "--sr 0.2",
    "--sr auto",
    "--penalty l1",
    "--bias-sr 0.1",
    "--round-to 8",
    "--no-probe",
    "--percent 0.5",
]
PLAIN += ["--keep model.2", "--residual inner"]


@pytest.mark.parametrize(("given", "expected"), SPARSE, ids=[given for given, _ in SPARSE])
def test_option(given, expected, refused, options):
    assert expected in refused("sparse", *options["sparse"], "--st", *given.split())


@pytest.mark.parametrize("given", PLAIN)
def test_without_st(given, refused, options):
    expected = f"{given.split()[0]}: given without --st, expected --st"
    assert expected in refused("sparse", *options["sparse"], *given.split())


def test_the_largest_share_that_is_named_can_be_had(refused, options, tiny_model):
    """What --keep and --freeze leave, to the digit."""
    left_out = ["--keep", "model.[4-7]", "--freeze", 2]
    line = refused("sparse", *options["sparse"], "--st", "--percent", 0.9, *left_out)
    most = float(re.search(r"at most ([\d.]+)", line).group(1))
    penalty = SparsityPenalty(tiny_model, percent=most, keep=["model.[4-7]"])
    sparse.freeze_(tiny_model, [2])
    gone = sum(int((~mask).sum()) for mask in penalty.strategy.masks().values())
    assert abs(gone - most * penalty.norms.graph.prunable_channels) <= 1
    with pytest.raises(InputError, match="--percent"):
        penalty.strategy.masks(1 + 0.02 / most)


def checked(argv) -> Namespace:
    """The options, after all that a training checks before it starts."""
    opt = command_line.parse_options(
        [str(a) for a in argv],
        add=sparse_options.add_options,
        prog="sparse",
        description="",
        weights="",
        data=None,
        imgsz=None,
    )
    sparse.resolve_defaults_(opt)
    sparse.check_options_(opt)
    return opt


@pytest.mark.parametrize("penalty", ["l1", "prox"])
def test_the_largest_sr_that_is_named_is_taken(penalty, refused, options):
    """It depends on the steps of the run, and a little more is too much."""
    named = []
    for epochs in (1, 30):
        argv = [*options["sparse"], "--st", "--penalty", penalty, "--epochs", epochs]
        line = refused("sparse", *argv, "--sr", 1e9)
        named.append(re.search(r"expected at most (\S+): in this run more takes", line).group(1))
        checked([*argv, "--sr", named[-1]])
        with pytest.raises(InputError, match="--sr"):
            checked([*argv, "--sr", 1.1 * float(named[-1])])
    assert float(named[1]) < 0.01 * float(named[0])


def test_sr_under_adam(options):
    """The subgradient's steps do not depend on it, so none is too large."""
    checked([*options["sparse"], "--st", "--sr", 1e9, "--optimizer", "Adam"])


def test_what_is_right_is_taken(options):
    for given in (
        "--sr auto",
        "--penalty l1",
        "--sr 0",
        "--sr 0 --percent 0",
        "--freeze 3 --percent 0.3",
    ):
        checked([*options["sparse"], "--st", *given.split()])


def test_a_model_without_norms(tiny_model, tmp_path, refused, options):
    fused = deepcopy(tiny_model).fuse()
    for module in tiny_model.modules():
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
            module.bn = nn.Identity()
    for model, expected in (
        (tiny_model, "model.0: Conv without a BatchNorm, expected an unfused one"),
        (fused, "bare.pt: a fused model (model.0 has no BatchNorm), as torch.hub and exports have"),
    ):
        file = save(model, tmp_path / "bare.pt")
        assert expected in refused("sparse", *options["sparse"], "--st", "--weights", file)
        with pytest.raises(InputError, match="model.0: Conv without a BatchNorm"):
            SparsityPenalty(model)


@pytest.mark.parametrize(
    ("saved", "expected"),
    [({}, "no --st in its opt.yaml"), ({"st": True}, "no sparsity.csv in its run")],
)
def test_resume_of_another_run(tiny_checkpoint, tmp_path, refused, saved, expected):
    """It was interrupted, and has all that the host keeps."""
    last = tmp_path / "run" / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    torch.save({**torch.load(tiny_checkpoint, weights_only=False), "epoch": 0}, last)
    (last.parents[1] / "opt.yaml").write_text(yaml.safe_dump({"epochs": 3, **saved}))
    before = sorted(tmp_path.rglob("*"))
    line = refused("sparse", "--resume", last)
    assert f"{expected}, expected a run of train_sparse.py" in line
    assert sorted(tmp_path.rglob("*")) == before
    assert load(last).epoch == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sr": "abc"}, "sr: 'abc', expected a finite number, 0 or more, or auto"),
        ({"sr": True}, "sr: True, expected a finite number"),
        ({"bias_sr": "auto"}, "bias_sr: 'auto', expected a finite number, 0 or more"),
        ({"bias_sr": -1.0}, "bias_sr: -1.0, expected"),
        ({"penalty": "l2"}, "penalty: 'l2', expected l1 or prox"),
        ({"macs": 0}, "macs: 0, expected"),
        ({"macs": 0.5, "percent": 0.6}, "macs: given besides percent"),
        ({"macs": 0.5, "sr": 0.1}, "macs: given with another sr"),
        ({"macs": 0.5, "penalty": "l1"}, "macs: given with another sr"),
        ({"macs": 0.001}, "macs: 0.001, expected"),
        ({"percent": 1.0}, "percent: 1.0, expected"),
        ({"percent": 0}, "percent: 0, expected a share in (0, 1)"),
        ({"percent": "0.6"}, "percent: '0.6', expected"),
        ({"residual": "all"}, "residual"),
        ({"keep": ["none"]}, "'none', which matches nothing"),
    ],
    ids=str,
)
def test_python(tiny_model, arguments, message):
    before = deepcopy(tiny_model.state_dict())
    with pytest.raises(InputError) as error:
        SparsityPenalty(tiny_model, **arguments)
    assert message in str(error.value)
    after = tiny_model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("round_to", [0, 2.5, True])
def test_round_to_of_a_program(tiny_model, round_to):
    with pytest.raises(InputError, match=f"round_to: {round_to}, expected .*1 or more"):
        SparsityPenalty(tiny_model, round_to=round_to)


def test_every_option_of_ours_says_nothing_without_st():
    parser = argparse.ArgumentParser(add_help=False)
    sparse_options.add_options(parser)
    ours = [action for action in parser._actions if action.dest != "st"]
    assert len(ours) == 9
    for action in ours:
        value = [] if action.nargs == 0 else [action.choices[-1] if action.choices else "1"]
        (flag,) = action.option_strings
        with pytest.raises(InputError, match=f"{flag}: given without --st, expected --st"):
            sparse_options.parse([flag, *value])


def test_auto_is_the_default_of_the_command(options, tiny_model):
    opt = checked([*options["sparse"], "--st"])
    assert (opt.sr, opt.penalty, opt.residual, opt.percent) == ("auto", None, "skip", DEFAULT)
    auto = sparse.penalty_of(tiny_model, opt).strategy
    assert isinstance(auto, Thinning)
    assert (auto.percent, auto.round_to, auto.with_gamma) == (DEFAULT, ROUND_TO, True)
