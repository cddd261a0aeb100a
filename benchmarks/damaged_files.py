"""Damage copies of a checkpoint, and see that none is opened with something else in it.

    python benchmarks/damaged_files.py best.pt --copies 1000

Each copy is changed by one of the kinds of `DAMAGE`, at places that a seed chooses. It has to end
in one line (an InputError), or to open with what is in the good file: tensors, names, yaml,
strides, number of classes. Anything else is printed, and ends the script with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from tqdm import tqdm

from yolo_slim import InputError, load
from yolo_slim.text import table

Damage = Callable[[bytearray, Random], None]
Results = Counter[tuple[str, str]]  # kind of damage and outcome, to number of copies


def flip_bit(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def flip_bits(data: bytearray, random: Random) -> None:
    for _ in range(random.randint(2, 50)):
        flip_bit(data, random)


def overwrite(data: bytearray, random: Random) -> None:
    start, size = random.randrange(len(data)), random.choice((4, 64, 512, 4096))
    size = min(size, len(data) - start)
    data[start : start + size] = random.choice((bytes(size), random.randbytes(size)))


def cut_end(data: bytearray, random: Random) -> None:
    del data[len(data) - random.choice((1, 7, 22, 200, random.randrange(1, len(data)))) :]


def swap(data: bytearray, random: Random) -> None:
    size = random.choice((16, 64, 512, 4096))
    a, b = random.randrange(len(data) - size), random.randrange(len(data) - size)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def insert(data: bytearray, random: Random) -> None:
    start, size = random.randrange(len(data)), random.choice((1, 22, 64, 512))
    source = random.randrange(len(data) - size)
    at = random.choice((start, 0, len(data)))
    data[at:at] = random.choice((random.randbytes(size), bytes(data[source : source + size])))


def remove(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data) - 600)
    del data[start : start + random.choice((1, 64, 512))]


def hit_directory(data: bytearray, random: Random) -> None:
    """The list of the pieces, at the end of the archive: no checksum covers it."""
    start = max(data.find(b"PK\x01\x02"), 0)
    for _ in range(random.randint(1, 3)):
        data[random.randrange(start, len(data))] ^= 1 << random.randrange(8)


def hit_last_bytes(data: bytearray, random: Random) -> None:
    """The record that says where the directory is."""
    data[-random.randint(1, 120)] = random.randrange(256)


def hit_headers(data: bytearray, random: Random) -> None:
    """The headers before the pieces; a file that is no archive has none."""
    starts, at = [], data.find(b"PK\x03\x04")
    while at >= 0:
        starts.append(at)
        at = data.find(b"PK\x03\x04", at + 4)
    data[random.choice(starts or [0]) + random.randrange(60)] ^= 1 << random.randrange(8)


def hit_pickle(data: bytearray, random: Random) -> None:
    """The names, the yaml and the classes."""
    start = data.find(b"data.pkl") + 64
    data[start + random.randrange(min(60_000, len(data) // 3))] ^= 1 << random.randrange(8)


DAMAGE: tuple[Damage, ...] = (
    flip_bit,
    flip_bits,
    overwrite,
    cut_end,
    swap,
    insert,
    remove,
    hit_directory,
    hit_last_bytes,
    hit_headers,
    hit_pickle,
)


def content(file: Path) -> tuple[Any, ...]:
    """What a checkpoint holds that a command uses, to be compared."""
    found = load(file)
    model = found.model
    tensors = {key: value.numpy().tobytes() for key, value in model.state_dict().items()}
    kinds = [(name, type(module).__name__) for name, module in model.named_modules()]
    plain = (found.names, found.yaml, model.stride.tolist(), model.nc, found.epoch)
    return tensors, kinds, plain


def copies(good: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """The kind of damage, and the damaged content; a copy that is as before is left out."""
    random = Random(seed)
    for number in range(count):
        damage = DAMAGE[number % len(DAMAGE)]
        data = bytearray(good)
        damage(data, random)
        if data != good:
            yield damage.__name__, bytes(data)


def outcome(file: Path, expected: tuple[Any, ...]) -> str:
    """refused, same, or what went wrong."""
    try:
        return "same" if content(file) == expected else "OTHER CONTENT"
    except InputError as error:
        return "refused" if "\n" not in str(error) else "SEVERAL LINES"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200].upper()


def run(weights: Path, count: int, seed: int = 0, progress: bool = True) -> Results:
    """Damage copies and open them.

    Args:
        weights: a good checkpoint.
        count: how many copies.
        seed: of the damage.
        progress: whether to show a bar.

    Returns:
        (kind of damage, outcome) to number of copies.
    """
    good, expected = weights.read_bytes(), content(weights)
    results: Results = Counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "damaged.pt"
        bar = tqdm(copies(good, count, seed), total=count, unit="file", disable=not progress)
        for kind, data in bar:
            file.write_bytes(data)
            results[kind, outcome(file, expected)] += 1
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="a good checkpoint")
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    opt = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    results = run(opt.weights, opt.copies, opt.seed)
    kinds = [damage.__name__ for damage in DAMAGE]
    rows = [[kind, *(str(results[kind, o]) for o in ("refused", "same"))] for kind in kinds]
    rows.append(["all", *(str(sum(results[k, o] for k in kinds)) for o in ("refused", "same"))])
    print(table(["damage", "one line", "as the good file"], rows))
    wrong = {key: n for key, n in results.items() if key[1] not in ("refused", "same")}
    for (kind, text), number in wrong.items():
        print(f"WRONG: {kind}: {text} ({number})")
    print(f"{sum(results.values())} copies in {time.perf_counter() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
