"""One process of a sparse training in the host's loop, for torchrun on a CPU.

    torchrun --nproc_per_node 2 distributed_run.py <options of train_sparse.py>

With POISON=rank,epoch,batch a weight of that rank becomes NaN there, once. When an epoch begins,
and when all is over, the ranks compare their gammas and betas to the bit; each writes into its file
rank0.txt, rank1.txt a line with epoch, zeros and the share that is due. See test_distributed.py for
what is not the host's.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from yolo_slim.cli import run
from yolo_slim.host import hooks
from yolo_slim.sparsify.session import SparseSession

torch.set_num_threads(1)
dist.init_process_group("gloo", timeout=timedelta(seconds=60))
RANK, RANKS = dist.get_rank(), dist.get_world_size()
POISON = [int(part) for part in os.environ.get("POISON", "").split(",") if part]
host, barrier = hooks.host, dist.barrier
train, smart_optimizer = host.train, host.smart_optimizer
models: list[nn.Module] = []


def host_train(*args: Any) -> Any:
    host.LOCAL_RANK = RANK  # as main leaves it
    return train(*args)


def share_(model: nn.Module) -> None:
    """What DistributedDataParallel does: one start, and gradients that are means over the ranks."""
    for value in model.state_dict().values():
        dist.broadcast(value, 0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(average_)


def average_(parameter: torch.Tensor) -> None:
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= RANKS


def make_optimizer(model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
    share_(model)
    models.append(model)
    return smart_optimizer(model, *args, **kwargs)


def compare(session: SparseSession, epoch: int) -> None:
    penalty = session.penalty
    assert penalty is not None
    mine = torch.cat([penalty.norms.flat("weight"), penalty.norms.flat("bias")])
    found = [torch.empty_like(mine) for _ in range(RANKS)]
    dist.all_gather(found, mine)
    assert torch.isfinite(mine).all()
    assert all(torch.equal(one, mine) for one in found), "ranks differ"
    zeros = int((penalty.norms.flat("weight") == 0).sum())
    with Path(f"rank{RANK}.txt").open("a") as file:
        file.write(f"{epoch} {zeros} {penalty.due}\n")


def watched(hook: str, call: Any) -> None:
    original = getattr(SparseSession, hook)

    def both(self: SparseSession, *args: Any) -> Any:
        call(self, *args)
        return original(self, *args)

    setattr(SparseSession, hook, both)


def strike(session: SparseSession, run: Any) -> None:
    if [RANK, run.epoch, run.batch] == POISON:
        POISON.clear()
        with torch.no_grad():
            models[-1].model[0].conv.weight[0] = float("nan")


watched("on_epoch_start", lambda session, run: compare(session, run.epoch))
watched("on_batch_start", strike)
watched("finish", lambda session, run: compare(session, -1))
host.train, host.smart_optimizer = host_train, make_optimizer
dist.barrier = lambda *args, **kwargs: barrier()  # device_ids is not for gloo
host.LOCAL_RANK = -1  # for the check of main, which wants a GPU for each rank
code = run("sparse", sys.argv[1:])
dist.destroy_process_group()
sys.exit(code)
