"""How far detections move, and which layers go back to float: hand-set."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_slim.deploy.int8.choose import held
from yolo_slim.deploy.int8.cpu import this_cpu, verdict
from yolo_slim.deploy.int8.movement import movement, overlap
from yolo_slim.deploy.int8.quantise import points_lost, quantised
from yolo_slim.errors import CheckFailed
from yolo_slim.host.evaluate import Accuracy

BOX = [5.0, 5, 10, 10]


def rows(*each: list[float]) -> list[np.ndarray]:
    return [np.array([each], np.float32)]


def test_movement_by_hand() -> None:
    """Scores 0.4 and 0.1; the first falls by 0.1, the second's box is gone by half of its width."""
    before = rows([*BOX, 0.5, 0.8], [*BOX, 0.1, 1.0])
    after = rows([*BOX, 0.5, 0.6], [10.0, 5, 10, 10, 0.1, 1.0])
    moved = movement([before], [after], 1)
    assert moved.scores == pytest.approx(0.1 / 0.5, abs=1e-6)
    assert moved.boxes == pytest.approx(0.1 * (1 - 1 / 3) / 0.5, abs=1e-6)
    assert movement([before], [before], 1).cost == pytest.approx(0, abs=1e-6)


def test_movement_of_coefficients() -> None:
    before, after = rows([*BOX, 1.0, 1.0, 2.0, -2.0]), rows([*BOX, 1.0, 1.0, 2.0, -1.0])
    assert movement([before], [after], 1).masks == pytest.approx(0.25)


def test_overlap_of_boxes_without_area() -> None:
    assert overlap(np.zeros(4), np.zeros(4)) == 0


@pytest.mark.parametrize(
    ("drops", "expected"),
    [
        ({0: 0.4}, [0]),
        ({1: 0.5}, [0, 1]),
        ({2: 0.1}, [0, 1, 2]),
        ({4: 0.1, 3: 0.9}, [0, 1, 2, 4, 3]),
        ({8: 0.1, 6: 0.2}, [0, 1, 2, 4, 8, 6]),
        ({}, [0, 1, 2, 4, 8]),
    ],
)
def test_layers_go_back_a_few_at_a_time(drops: dict[int, float], expected: list[int]) -> None:
    names = [f"layer{i}" for i in range(17)]
    asked: list[bool] = []
    attempts = list(
        held(lambda layers: drops.get(len(layers), 0.9), lambda: asked.append(True) or names, 0.5)
    )
    assert [len(attempt.float_layers) for attempt in attempts] == expected
    assert all(
        attempt.float_layers == tuple(names[: len(attempt.float_layers)]) for attempt in attempts
    )
    assert bool(asked) == (expected != [0])


class Toy:
    """Makes contents that are the number of layers in float."""

    class scope:
        layers = {f"layer{i}": () for i in range(8)}

    methods = ("bad", "good")

    def make(self, method: str, float_layers: tuple[str, ...] = ()) -> bytes:
        return f"{method} {len(float_layers)}".encode()


def toy(limit: float, drops: dict[int, float]) -> object:
    """`quantised` with a file that loses these points by its layers in float."""

    def judge(content: bytes) -> object:
        cost = 1.0 if content.startswith(b"bad") else 0.1
        return type("Movement", (), {"cost": cost})()

    def accuracy(content: bytes) -> Accuracy:
        return Accuracy(0.8, 0.5 - drops[int(content.split()[1])] / 100)

    layers = list(Toy.scope.layers)
    return quantised(Toy(), judge, accuracy, Accuracy(0.8, 0.5), lambda: layers, limit, "toy")  # type: ignore[arg-type]


def test_the_cheapest_method_and_the_fewest_layers() -> None:
    made = toy(0.5, {0: 2.0, 1: 1.5, 2: 1.0, 4: 0.2, 3: 0.4})
    assert made.method == "good" and made.content == b"good 3"
    assert made.float_layers == ("layer0", "layer1", "layer2") and len(made.attempts) == 5
    assert "3 of 8 layers in float" in str(made)


def test_a_drop_that_cannot_be_held() -> None:
    with pytest.raises(
        CheckFailed, match=r"^toy in 8 bits loses 0\.70 points .* 2 layers in float"
    ):
        toy(0.5, {0: 2.0, 1: 1.5, 2: 0.7, 4: 0.9})


def test_masks_count_as_boxes() -> None:
    before, after = Accuracy(0.5, 0.4, 0.5, 0.3), Accuracy(0.5, 0.4, 0.5, 0.29)
    assert points_lost(before, after) == pytest.approx(1)
    assert points_lost(after, before) == pytest.approx(0)


def test_words_on_speed() -> None:
    plain, new = this_cpu("flags : avx2"), this_cpu("flags : avx2 avx_vnni")
    phone, other = this_cpu("Features : fp asimd asimddp"), this_cpu("")
    assert plain.overflows and not new.overflows and not phone.overflows and not other.overflows
    assert "do not pay here in X: 1.04 of the time" in verdict(1.04, 0.3, "X", plain)
    assert "no VNNI" in verdict(1.04, 0.3, "X", plain)
    assert verdict(0.7, 0.3, "X", new).startswith("8 bits pay here in X: 0.70 of the time, 0.30 of")
    assert "do not show: 0.70 of the time" in verdict(0.7, 0.3, "X", new, rough=True)
    assert "Narrow layers" in verdict(1.0, 0.3, "X", new) and "dot products" in str(phone)
    assert "not known" in verdict(0.7, 0.3, "X", other)
    fast = this_cpu("flags : avx512_vnni amx_bf16")
    assert "bfloat16" in verdict(1.0, 0.5, "OpenVINO", fast)
    assert "bfloat16" not in verdict(1.0, 0.5, "ONNX Runtime", fast)
