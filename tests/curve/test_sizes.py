"""Smaller images whose MACs are near to a share."""

from __future__ import annotations

from yolo_slim.curve.sizes import nearest_sizes

SHARES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]


def test_sizes() -> None:
    assert nearest_sizes(320, 32, SHARES) == [288, 256, 224, 192, 160]
    assert nearest_sizes(640, 32, SHARES) == [608, 576, 544, 480, 448, 416, 352]
    assert nearest_sizes(1280, 64, [0.5]) == [896]
    assert nearest_sizes(64, 32, [0.5, 0.1]) == [32]
    assert nearest_sizes(32, 32, [0.5]) == []


def test_none_is_farther_than_half_a_stride() -> None:
    for share in SHARES:
        (size,) = nearest_sizes(640, 32, [share])
        assert abs(size - 640 * share**0.5) <= 16
