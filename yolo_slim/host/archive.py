"""Whether a checkpoint's file is whole: its pieces against the CRC-32 in the archive's directory.

torch.save writes a zip archive with a checksum for each piece, and torch.load does not look at
them: wrong bytes become wrong weights. The file is mapped and summed, at the speed of zlib.crc32.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_slim.errors import InputError, note
from yolo_slim.files import CHECKPOINT

LOCAL = struct.Struct("<4s22xHH")  # the header before a piece: magic, lengths of name and extra
PIECE = 1 << 24  # bytes that are summed at a time


def check_archive(path: Path) -> None:
    """See that each piece of a checkpoint is as it was written.

    A file without checksums (torch.serialization.set_crc32_options(False), or the format of torch
    before 1.6, which has none) is told in a line.

    Raises:
        InputError: a piece is damaged, is there twice or is missing.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                return
        with zipfile.ZipFile(path) as archive:
            pieces = archive.infolist()
            named = {piece.filename for piece in pieces}
            if len(named) < len(pieces):
                raise InputError(path, "damaged (a piece is there twice)", CHECKPOINT)
            if not any(piece.CRC for piece in pieces):
                note(path, "its writer left the checksums out, so damage is not noticed")
                return
            with _mapped(path) as view:
                wrong = [p.filename for p in pieces if not _is_whole(archive, p, view)][:1]
    except InputError:
        raise
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})", CHECKPOINT) from error
    except Exception as error:  # zipfile raises a dozen types on a damaged directory
        text = "not a checkpoint, or a damaged one"
        raise InputError(path, f"{text} ({str(error)[:80]})", CHECKPOINT) from error
    if wrong:
        got = f"damaged ({wrong[0][:60]} is not what was written: its CRC-32 differs)"
        raise InputError(path, got, f"{CHECKPOINT}: copy or download it again")


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        view = memoryview(content)
        try:
            yield view
        finally:
            view.release()


def _is_whole(archive: zipfile.ZipFile, piece: zipfile.ZipInfo, view: memoryview) -> bool:
    """True if a piece's header and content are those of the directory."""
    if piece.compress_type != zipfile.ZIP_STORED or piece.flag_bits & 1:
        with archive.open(piece) as content:
            while content.read(PIECE):
                pass
        return True
    start = piece.header_offset
    magic, name, extra = LOCAL.unpack(view[start : start + LOCAL.size])
    begin = start + LOCAL.size + name + extra
    end = begin + piece.file_size
    own = bytes(view[start + LOCAL.size : start + LOCAL.size + name])
    encoded = piece.orig_filename.encode("utf-8" if piece.flag_bits & 0x800 else "cp437")
    if magic != b"PK\x03\x04" or own != encoded or end > len(view):
        return False
    if piece.compress_size != piece.file_size:
        return False
    crc = 0
    for at in range(begin, end, PIECE):
        crc = zlib.crc32(view[at : min(at + PIECE, end)], crc)
    return crc == piece.CRC
