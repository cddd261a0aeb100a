"""What a file is that was given as a checkpoint: by its first bytes, or by its name.

A file of another program is named as what it is, before torch is imported: an ONNX file is not a
damaged checkpoint. What begins as torch.save writes is left to torch.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

HEAD = 1024  # bytes that are looked at
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6 begins with this
IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\x00", b"MM\x00*")
EXPORTS = "the .pt that it was exported from"
UNPACKED = "the .pt, unpacked"

MAGIC: tuple[tuple[bytes, str, str], ...] = (  # first bytes, what the file is, what to take instead
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "git lfs pull"),
    (b"ftrt", "a TensorRT engine", EXPORTS),
    (b"ptrt", "a TensorRT engine", EXPORTS),
    (b"7767517", "an NCNN model", EXPORTS),
    (b"\x89HDF", "a Keras model (HDF5)", ""),
    (b"\x93NUMPY", "a numpy array", ""),
    (b"%PDF", "a PDF", ""),
    (b"\x1f\x8b", "a gzip archive", UNPACKED),
    (b"\xfd7zXZ", "an xz archive", UNPACKED),
    (b"BZh", "a bzip2 archive", UNPACKED),
    (b"(\xb5/\xfd", "a zstd archive", UNPACKED),
    (b"7z\xbc\xaf", "a 7z archive", UNPACKED),
    (b"Rar!", "a rar archive", UNPACKED),
    (b"PK\x05\x06", "an empty zip archive", ""),
    *((magic, "an image", "") for magic in IMAGES),
)
SUFFIXES = {  # of files whose first bytes say nothing
    ".onnx": ("an ONNX model", EXPORTS),
    ".engine": ("a TensorRT engine", EXPORTS),
    ".trt": ("a TensorRT engine", EXPORTS),
    ".pb": ("a TensorFlow model", EXPORTS),
    ".tflite": ("a TensorFlow Lite model", EXPORTS),
    ".mlmodel": ("a CoreML model", EXPORTS),
    ".safetensors": ("a file of safetensors", ""),
    ".weights": ("Darknet weights", ""),
    ".pdparams": ("a PaddlePaddle model", ""),
    ".pdiparams": ("a PaddlePaddle model", EXPORTS),
    ".pdmodel": ("a PaddlePaddle model", EXPORTS),
    ".mnn": ("an MNN model", EXPORTS),
    ".bin": ("a file that no torch.save wrote (.bin)", ""),
}


def other_kind(path: Path) -> tuple[str, str] | None:
    """What a file is if it is plainly no checkpoint, and what to give instead.

    Args:
        path: a file that is there.

    Returns:
        The two texts, the second one may be empty; None for what torch may have written.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head.startswith(b"\x80"):  # a pickle
        plain = len(head) > len(LEGACY) and not head.startswith(LEGACY) and head[1] <= 5
        return ("a Python pickle that torch.save did not write", "") if plain else None
    for magic, name, instead in MAGIC:
        if head.startswith(magic):
            return name, instead
    return _binary_kind(head) or SUFFIXES.get(path.suffix.lower()) or _text_kind(head)


def _binary_kind(head: bytes) -> tuple[str, str] | None:
    length = int.from_bytes(head[:8], "little")
    if head[8:10] in (b'{"', b"{}") and length < 100_000_000:
        return "a file of safetensors", "the .pt"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model", EXPORTS
    if head[4:6] == b'{"':
        return "a TensorRT engine", EXPORTS
    if head[4:8] == b"ftyp":
        return "a video or an image", ""
    if head[:4] == b"RIFF" or (head[:2] == b"BM" and head[6:10] == bytes(4)):
        return "a video or an image" if head[8:12] != b"WEBP" else "an image", ""
    if head[:3] == b"\x08\x01\x12":
        return "a TensorFlow model", EXPORTS
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a"):
        return "an ONNX model", EXPORTS  # ir_version, then the producer, the domain or the graph
    if head[257:262] == b"ustar":
        return "a tar archive", UNPACKED
    if not head.strip(b"\x00"):
        return "nothing but zeros at its start", "a file that was copied to its end"
    return None


def _text_kind(head: bytes) -> tuple[str, str] | None:
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD else "ignore")
    except UnicodeDecodeError:
        return None
    if any(ord(c) < 32 and c not in "\t\r\n\f" for c in text) or len(text) < 8:
        return None
    text = text.lstrip("\ufeff \t\r\n")
    if re.match(r"<!doctype html|<html|<head|<script", text, re.IGNORECASE):
        return "a page of HTML", "the file; its download has failed"
    if text.startswith("<"):
        openvino = "<net" in text
        return ("an OpenVINO model", EXPORTS) if openvino else ("an XML file", "")
    if re.search(r"^(backbone|nc|names|train):", text, re.MULTILINE):
        return "a yaml", "a .pt (a model yaml goes to --cfg, a data yaml to --data)"
    start = " ".join(text.split())[:30]
    return f"a text file ({start!r}...)", ""


def _zip_kind(path: Path) -> tuple[str, str] | None:
    """Of a zip file that torch did not write; None also for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # torch, or the check of its sums, says what is wrong with it
        return None
    if not names or any(name.endswith("data.pkl") or "/data/" in name for name in names):
        return None
    inside = [name for name in names if name.endswith((".pt", ".pth"))]
    if inside:
        return f"a zip archive with {inside[0]} in it", UNPACKED
    if all(name.endswith(".npy") for name in names):
        return "a file of numpy arrays (.npz)", ""
    return f"a zip archive with {names[0][:60]} in it, no checkpoint", ""
