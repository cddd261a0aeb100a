"""The real data beside the clone, copied aside: the host writes label caches into its folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from yolo_slim.host.data import check_data, general

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BCCD_NAMES = ["RBC", "WBC", "Platelets"]
NAMES = {
    "bccd": BCCD_NAMES,
    "cards": ["nine", "ten", "jack", "queen", "king", "ace"],
    "deeppcb": ["open", "short", "mousebite", "spur", "copper", "pin-hole"],
}


def data_set(name: str, folder: Path, shared: Path = SHARED) -> Path:
    """The data yaml of a copy of a set of `NAMES`.

    Images for training and for validation: bccd 205 and 87, cards 296 and 67, deeppcb 1000 and 500.
    """
    copy_once(shared / name, folder / name)
    data = {"path": str(folder / name), "train": "images/train", "val": "images/val"}
    return write_yaml(folder / f"{name}.yaml", {**data, "names": NAMES[name]})


def bccd(folder: Path, shared: Path = SHARED) -> Path:
    """The data yaml of a copy of BCCD."""
    return data_set("bccd", folder, shared)


def coco_halves(folder: Path, shared: Path = SHARED) -> list[dict[str, Any]]:
    """A copy of COCO128 in two halves of 64 images: data dicts with each as train and as val."""
    copy_once(shared / "coco128", folder / "coco128")
    files = sorted((folder / "coco128" / "images").rglob("*.jpg"))
    host = Path(general.ROOT) / "data" / "coco128.yaml"
    names = yaml.safe_load(host.read_text(errors="ignore"))["names"]
    for start in (0, 1):
        text = "\n".join(str(file.absolute()) for file in files[start::2])
        (folder / f"half{start}.txt").write_text(text)
    found = []
    for start in (0, 1):
        data = {"path": str(folder), "train": f"half{start}.txt", "val": f"half{1 - start}.txt"}
        file = write_yaml(folder / f"coco{start}.yaml", {**data, "names": names})
        found.append(check_data(file, 80, ("train", "val")))
    return found


def copy_once(source: Path, target: Path) -> None:
    """Copy a folder that is not there yet, whole or not at all."""
    if not target.is_dir():
        aside = target.with_name(f"{target.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(source, aside)
        aside.rename(target)


def write_yaml(file: Path, data: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return file
