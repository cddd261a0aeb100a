"""Image folders as people have them, in the working directory, and how many images each has."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import yaml

from yolo_slim.host.images import labels_of

BOX = "0 0.5 0.5 0.2 0.2\n"


def picture(place: str | Path, label: str | None = BOX) -> Path:
    """A picture of 20 px, with its label where YOLOv5 looks for it."""
    file = Path(place).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(".png", np.full((20, 20, 3), 99, np.uint8))[1].tofile(file)
    if label is not None:
        text = Path(labels_of([file])[0])
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(label)
    return file


def yaml_of(**entries: object) -> Path:
    """A data yaml in the working directory."""
    file = Path("data.yaml")
    file.write_text(yaml.safe_dump({"names": ["a"], **entries}))
    return file


def folder(root: Path) -> str:
    picture(root / "images/val/b.png")
    picture(root / "images/val/a.jpg")
    return "images/val"


def nested(root: Path) -> str:
    picture(root / "images/val/x/y/a.png")
    picture(root / "images/val/b.png")
    return "images/val"


def symbolic_link(root: Path) -> str:
    picture(root / "else/images/deep/a.png")
    (root / "images").mkdir()
    (root / "images/val").symlink_to(root / "else/images/deep")
    return "images/val"


def symbolic_link_below(root: Path) -> str:
    picture(root / "else/images/deep/a.png")
    picture(root / "images/val/b.png")
    (root / "images/val/linked").symlink_to(root / "else/images/deep")
    return "images/val"


def hidden(root: Path) -> str:
    for name in ("a.png", "._a.png", ".b.png", ".hidden/c.png"):
        picture(root / "images/val" / name, label=None)
    return "images/val"


def extensions(root: Path) -> str:
    for name in ("a.PNG", "b.JPG", "c.Jpeg", "d.heic", "e.gif", "f", "g.txt", "h.png.bak"):
        picture(root / "images/val" / name, label=None)
    return "images/val"


def images_twice(root: Path) -> str:
    picture(root / "images/of/images/val/a.png")
    return "images/of/images/val"


def no_images_folder(root: Path) -> str:
    picture(root / "pictures/a.png")
    return "pictures"


def odd_names(root: Path) -> str:
    picture(root / "images/val [2] a*b?/grün 中/bild ä [1].png")
    return "images/val [2] a*b?"


def loop_of_links(root: Path) -> str:
    """Links to a folder around them, by way of another one; the host goes 40 times around."""
    picture(root / "images/val/deep/a.png")
    picture(root / "images/val/b.png")
    (root / "images/val/deep/up").symlink_to(root / "images/val")
    (root / "images/val/deep/here").symlink_to(".")
    return "images/val"


def no_files(root: Path) -> str:
    """Names of images that are a pipe, a folder, a device, and links that lead nowhere."""
    picture(root / "images/val/a.png")
    os.mkfifo(root / "images/val/pipe.png")
    (root / "images/val/folder.png").mkdir()
    for name, target in (("gone", "nothing"), ("self", "self.png"), ("zero", "/dev/zero")):
        (root / f"images/val/{name}.png").symlink_to(target)
    return "images/val"


def text_file_of_itself(root: Path) -> str:
    """A list that names itself, a folder, and an image."""
    picture(root / "images/a.png")
    (root / "val.txt").write_text("val.txt\n./val.txt\nimages\n./images/a.png\n")
    return "val.txt"


def text_file(root: Path) -> str:
    """Lines from where the user stands, from the text file, absolute, blank, of no file."""
    for name in ("a", "b", "c"):
        picture(root / f"sets/images/{name}.png")
    lines = ["sets/images/a.png", "./images/b.png", str(root / "sets/images/c.png"), "", "no.png"]
    (root / "sets/val.txt").write_text("\n".join(lines) + "\n\n")
    return "sets/val.txt"


def windows_text_file(root: Path) -> str:
    for name in ("a", "ü"):
        picture(root / f"images/{name}.png")
    (root / "val.txt").write_bytes("\ufeff./images/a.png\r\n./images/ü.png  \r\n".encode())
    return "val.txt"


def several(root: Path) -> list[str]:
    picture(root / "images/one/a.png")
    picture(root / "images/two/b.png")
    (root / "more.txt").write_text("./images/one/a.png\n")
    return ["images/one", "images/two", "more.txt"]


LAYOUTS = {
    folder: 2,
    nested: 2,
    symbolic_link: 1,
    symbolic_link_below: 2,
    hidden: 1,
    extensions: 3,
    images_twice: 1,
    no_images_folder: 1,
    odd_names: 1,
    loop_of_links: 2,
    no_files: 1,
    text_file_of_itself: 1,
    text_file: 3,
    windows_text_file: 2,
    several: 2,
}
