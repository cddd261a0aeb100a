"""Several processes: the penalty under DistributedDataParallel, and the host's own loop with it.

The loop is yolov5.train's `train`, in two processes of torchrun with gloo: its RANK, LOCAL_RANK and
WORLD_SIZE, its seeds, its DistributedSampler, its loss times the number of processes, its logging,
validation and saving in the first process alone, its word from there whether to stop. What is not
the host's, since it asks for a GPU there: the process group is made beforehand; `main` is told that
it is alone, and `train` the truth; barriers have no device; gradients are averaged by hooks on the
parameters where the host wraps its model in DistributedDataParallel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from places import TESTS
from sparse_runs import SMALL, epochs_of

from yolo_slim import load

PENALTY = """
import torch
import torch.distributed as dist
from torch import nn
torch.set_num_threads(1)
dist.init_process_group("gloo")
from conftest import build_tiny
from yolo_slim import SparsityPenalty

def train(model, batch, wrap, steps, momentum, options):
    lr = 0.01 if momentum else 0.05
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    penalty = SparsityPenalty(model, **options).attach(optimizer)
    net = nn.parallel.DistributedDataParallel(model) if wrap else model
    model.eval()  # BN by its running statistics: the batch may then be split
    for step in range(steps):
        penalty.progress = step / steps
        optimizer.zero_grad()
        out = net(batch)[1]
        sum(o.pow(2).mean() for o in out).backward()
        optimizer.step()
    assert penalty.holds or steps == 4
    return torch.cat([penalty.norms.flat("weight"), penalty.norms.flat("bias")])

rank = dist.get_rank()
images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
for steps, momentum, options in (
    (4, 0, {"sr": 0.01}),
    (4, 0, {"sr": 2.0, "penalty": "prox"}),
    (4, 0, {"sr": "auto", "round_to": 8}),
    (12, 0.9, {"sr": "auto", "percent": 0.5, "round_to": 1}),
):
    mine = train(build_tiny(), images[2 * rank : 2 * rank + 2], True, steps, momentum, options)
    both = [torch.zeros_like(mine) for _ in range(2)]
    dist.all_gather(both, mine)
    assert torch.equal(both[0], both[1]), "ranks differ"
    alone = train(build_tiny(), images, False, steps, momentum, options)
    assert torch.equal(mine == 0, alone == 0), "other channels are gone"
    zeros = (alone[: len(alone) // 2] == 0).float().mean()
    assert (zeros > 0) == (options["sr"] != 0.01)
    assert steps == 4 or abs(zeros - 0.5) < 0.01
    torch.testing.assert_close(mine, alone, rtol=1e-3 if momentum else 1e-4, atol=1e-5)
    print("same", flush=True)
dist.destroy_process_group()
"""


def torchrun(folder: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess:
    """Two processes; TimeoutExpired if they wait for each other for ever."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--", *argv]
    folders = os.pathsep.join(map(str, (TESTS, TESTS.parent / "benchmarks")))
    env = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=env, check=False, timeout=240
    )


def test_ddp_equals_one_process_with_the_whole_batch(tmp_path: Path) -> None:
    script = tmp_path / "ddp.py"
    script.write_text(PENALTY)
    done = torchrun(tmp_path, str(script))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("same") == 2 * 4


def test_the_hosts_loop_in_two_processes(
    tmp_path: Path, tiny_yaml: dict[str, Any], shapes_yaml: Path
) -> None:
    """The first one alone has a NaN, in the last epoch: both go back together, and to the end."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml))
    argv = ["--st", "--cfg", "tiny.yaml", "--data", str(shapes_yaml), "--epochs", "4", *SMALL]
    done = torchrun(tmp_path, str(TESTS / "distributed_run.py"), *argv, POISON="0,3,0")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("sparsity: the loss is nan. Back to epoch 3, aiming at 45%") == 1
    told = [
        [line.split() for line in (tmp_path / f"rank{rank}.txt").read_text().splitlines()]
        for rank in range(2)
    ]
    assert told[0] == told[1]  # epochs, zeros, what is due; the gammas themselves they compared
    assert [line[0] for line in told[0]] == ["0", "1", "2", "3", "3", "-1"]
    zeros = [int(line[1]) for line in told[0]]
    assert zeros[0] == 0 < zeros[1] < zeros[2]
    folder = tmp_path / "runs" / "train" / "exp"
    for name in ("sparsity.csv", "results.csv"):
        assert epochs_of(folder / name) == [0, 1, 2, 3]
    found = load(folder / "weights" / "last.pt")
    assert found.epoch == -1
    assert all(torch.isfinite(value).all() for value in found.model.state_dict().values())
