"""A damaged file is refused in one line, or opens with what was in the good one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import damaged_files
import pytest
import torch

from yolo_slim import InputError, load
from yolo_slim.cli import run

ROUND = 8 * len(damaged_files.DAMAGE)


def test_damaged_copies(tiny_checkpoint: Path, one_thread) -> None:
    """benchmarks/damaged_files.py does a thousand."""
    results = damaged_files.run(tiny_checkpoint, ROUND, seed=5, progress=False)
    assert {outcome for _, outcome in results} == {"refused", "same"}, results
    assert sum(results.values()) == ROUND
    assert results["flip_bit", "refused"] == 8  # each bit counts: no copy opens with a wrong one


def test_one_bit_of_a_weight(tiny_checkpoint, tmp_path, refused) -> None:
    content = bytearray(tiny_checkpoint.read_bytes())
    with zipfile.ZipFile(tiny_checkpoint) as archive:
        piece = max(archive.infolist(), key=lambda p: p.file_size * p.filename.count("data/"))
    content[piece.header_offset + 500] ^= 1
    (tmp_path / "bit.pt").write_bytes(content)
    line = refused("prune", "--weights", tmp_path / "bit.pt")
    text = f"damaged ({piece.filename} is not what was written: its CRC-32 differs)"
    assert line.startswith(f"error: {tmp_path / 'bit.pt'}: {text}, expected a YOLOv5 checkpoint")


def test_zip_that_claims_to_span_disks(tiny_checkpoint, tmp_path, refused) -> None:
    content = bytearray(tiny_checkpoint.read_bytes())
    content[content.rindex(b"PK\x05\x06") + 4] = 1
    content[content.rindex(b"PK\x06\x07") + 16] = 2
    (tmp_path / "disks.pt").write_bytes(content)
    line = refused("prune", "--weights", tmp_path / "disks.pt")
    assert "not a checkpoint, or a damaged one" in line


def test_piece_that_is_there_twice(tiny_checkpoint, tmp_path) -> None:
    file = tmp_path / "twice.pt"
    file.write_bytes(tiny_checkpoint.read_bytes())
    with zipfile.ZipFile(file) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data/0"))
        other = bytes(len(archive.read(name)))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, other)
    with pytest.raises(InputError, match="a piece is there twice"):
        load(file)


def test_file_without_checksums(tiny_model, tiny_checkpoint, tmp_path, capfd) -> None:
    file = tmp_path / "unsummed.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": tiny_model}, file)
    finally:
        torch.serialization.set_crc32_options(True)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(load(file).model(image)[0], tiny_model(image)[0])
    assert run("inspect", [str(file), "--json"]) == 0
    told = capfd.readouterr().err  # once, though two have opened it
    assert told == f"note: {file}: its writer left the checksums out, so damage is not noticed\n"
    load(tiny_checkpoint)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_damaged_state_dicts(summed, legacy, tiny_model, tiny_yaml, tmp_path) -> None:
    """Without checksums what opens may be damaged; it ends in one line or opens all the same."""
    buffer = io.BytesIO()
    torch.serialization.set_crc32_options(summed)
    try:
        torch.save(tiny_model.state_dict(), buffer, _use_new_zipfile_serialization=not legacy)
    finally:
        torch.serialization.set_crc32_options(True)
    opened = 0
    for _, content in damaged_files.copies(buffer.getvalue(), 22, 1):
        (tmp_path / "damaged.pt").write_bytes(content)
        try:
            found = load(tmp_path / "damaged.pt", cfg=tiny_yaml)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        opened += 1
        if summed and not legacy:
            states = found.model.state_dict(), tiny_model.state_dict()
            assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, states), strict=True))
    assert opened
