"""Nothing is asked of the network; and each mend of the host does what it stands for."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ImageFont

from yolo_slim.errors import InputError
from yolo_slim.host import compat

compat.mend()

WATCHED = """
import json, os, sys

asked, tools = [], ("curl", "wget", "pip", "git")

def watch(event, args):
    if event == "socket.connect":
        where = args[1]
        local = not isinstance(where, tuple) or where[0] in ("127.0.0.1", "::1", "localhost")
        if not local:
            asked.append([event, repr(where)])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        if args[0] not in (None, "127.0.0.1", "::1", "localhost"):
            asked.append([event, repr(args[0])])
    elif event == "urllib.Request":
        asked.append([event, repr(args[0])])
    elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
        words = args[1] if event == "subprocess.Popen" else args[0]
        text = words if isinstance(words, str) else " ".join(map(os.fsdecode, words or []))
        if any(word.rpartition("/")[2] in tools for word in text.split()):
            asked.append([event, text])

sys.addaudithook(watch)
from yolo_slim.cli import run

code = [run("sparse", argv) for argv in json.loads(sys.argv[2])]
with open(sys.argv[1], "w") as file:
    json.dump({"asked": asked, "code": code}, file)
"""

WATCHED_RUNS = 'code = [run("sparse", argv) for argv in json.loads(sys.argv[2])]'


def bare_environment(home: Path) -> dict[str, str]:
    """That of a user who has set nothing; no CI, where some programs report nothing."""
    keep = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")
    env = {key: os.environ[key] for key in keep if key in os.environ}
    return env | {"HOME": str(home), "USERPROFILE": str(home), "OMP_NUM_THREADS": "1"}


def test_training_asks_nothing(tmp_path, shapes_yaml, seg_yaml, tiny_yaml):
    """One epoch with sparsity and plots, of boxes and of masks, from an empty home.

    No font, hub, update or analytics is asked for.
    """
    home, log = tmp_path / "home", tmp_path / "log.json"
    home.mkdir()
    (tmp_path / "boxes.yaml").write_text(yaml.safe_dump(tiny_yaml))
    tiny_yaml["head"][-1][2:] = ["Segment", ["nc", "anchors", 8, 32]]
    (tmp_path / "masks.yaml").write_text(yaml.safe_dump(tiny_yaml))
    common = ["--st", "--imgsz", "64", "--epochs", "1", "--batch-size", "8", "--workers", "0"]
    argvs = [
        [*common, "--cfg", f"{name}.yaml", "--data", str(data), "--name", name]
        for name, data in (("boxes", shapes_yaml), ("masks", seg_yaml))
    ]
    command = [sys.executable, "-c", WATCHED, str(log), json.dumps(argvs)]
    done = subprocess.run(
        command, cwd=tmp_path, env=bare_environment(home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(log.read_text()) == {"asked": [], "code": [0, 0]}
    for name in ("boxes", "masks"):
        folder = tmp_path / "runs" / "train" / name
        for file in ("weights/last.pt", "sparsity.csv", "results.png", "train_batch0.jpg"):
            assert (folder / file).is_file()
    settings = [json.loads(f.read_text()) for f in home.rglob("settings.json")]
    assert [each["sync"] for each in settings] == [False]  # ultralytics' own default is True


@pytest.mark.parametrize(
    "runs",
    [
        "from yolo_slim.measure.latency import session; session(content)",
        "from yolo_slim.device.profile_device import OnnxRuntime; OnnxRuntime(1).call(content)()",
        "from yolo_slim.device.profile_device import OpenVino; OpenVino(1).call(content)()",
        "from yolo_slim.host.compat import mend; mend(); import onnxruntime",
        "from yolo_slim.deploy.int8.nncf import nncf_maker\n"
        "from yolo_slim.deploy.options import ExportOptions\n"
        "import numpy; images = [numpy.ones((1, 8, 8, 8), numpy.float32)] * 4\n"
        "print(nncf_maker(content, images, {}, ExportOptions()).make('mixed').keys())",
    ],
)
def test_no_runtime_reports_home(runs: str, tmp_path: Path) -> None:
    """ONNX Runtime does by itself since 1.29, OpenVINO as well: an id, a database, a request."""
    if "OpenVino" in runs or "nncf" in runs:
        pytest.importorskip("openvino")
    if "nncf" in runs:
        pytest.importorskip("nncf")
    home, log = tmp_path / "home", tmp_path / "log.json"
    home.mkdir()
    made = "from yolo_slim.device.profile_device import convs_onnx\n"
    made += "conv = dict(map=[8, 8], groups=1, kernel=[1, 1], strides=[1, 1], pads=[0, 0, 0, 0],"
    made += f" dilations=[1, 1], activation='')\ncontent = convs_onnx([(conv, 2, 2)])\n{runs}\n"
    code = WATCHED.replace(WATCHED_RUNS, f"{made}code = 0")
    done = subprocess.run(
        [sys.executable, "-c", code, str(log)],
        env=bare_environment(home),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(log.read_text())["asked"] == []
    left = [path.name for path in home.rglob("*") if path.is_file()]
    assert not [name for name in left if "onnxruntime" in name or "device" in name or "cid" in name]


def test_settings_of_the_user_stay(tmp_path):
    """What ultralytics was told before is not changed."""
    env = os.environ | {"YOLO_CONFIG_DIR": str(tmp_path)}
    read = "from ultralytics.utils import SETTINGS; print(SETTINGS['sync'])"
    ours = "from yolo_slim.host.compat import mend; mend(); " + read

    def run(code):
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    assert [run(read), run(ours)] == ["True", "True"]


def test_a_torchvision_of_another_torch_is_named(monkeypatch):
    """A pair that does not fit fails in torchvision's own import: as when nms is not registered."""

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(InputError, match=r"^torchvision: torchvision .* beside torch .*nms"):
        compat._check_torchvision()


def test_watch_sees_a_request(tmp_path):
    """The hook of the test above would have told."""
    ask = WATCHED.replace(
        WATCHED_RUNS,
        "import socket, subprocess\n"
        "with socket.socket() as s: s.settimeout(0.01); s.connect_ex(('192.0.2.1', 9))\n"
        "subprocess.run(['git', '--version'], capture_output=True, check=False)\ncode = 0",
    )
    log = tmp_path / "log.json"
    subprocess.run([sys.executable, "-c", ask, str(log)], check=True)
    events = [event for event, _ in json.loads(log.read_text())["asked"]]
    assert events[:2] == ["socket.connect", "subprocess.Popen"]


def test_trapz():
    x, y = np.linspace(0, 1, 11), np.linspace(0, 1, 11) ** 2
    by_hand = sum((y[i] + y[i + 1]) / 2 * 0.1 for i in range(10))
    assert np.trapz(y, x) == pytest.approx(by_hand, abs=1e-12)


def test_average_precision_of_the_host():
    """Precision 1 up to a recall of 0.5, from there a line down to 0: an area of 0.5 + 0.25."""
    from yolov5.utils.metrics import compute_ap

    ap, *_ = compute_ap(np.array([0.25, 0.5]), np.array([1.0, 1.0]))
    assert ap == pytest.approx(0.75, abs=1e-6)


def test_getsize():
    font = compat.pil_font(size=20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert font.getsize("circle") == font.getbbox("circle")[2:]
    assert font.getsize("circle 0.9")[0] > font.getsize("circle")[0]


def test_pkg_resources():
    import pkg_resources

    parse = pkg_resources.parse_version
    assert parse("1.10.0") > parse("1.9.1") > parse("1.9.0rc1")


def test_local_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="yolov5s.pt: no such file; weights are not"):
        compat.local_file(tmp_path / "yolov5s.pt")
    (tmp_path / "a.pt").touch()
    assert compat.local_file(f" '{tmp_path / 'a.pt'}'") == str(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["", "Arial.ttf", "Arial.Unicode.ttf"])
def test_font_renders(name):
    """A font that is not there is replaced by one that is: the text has ink and a height."""
    mask = compat.pil_font(name, 20).getmask("Shapes")
    assert (max(mask), 10 < mask.size[1] < 30) == (255, True)


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("utils.general", "check_online", False),
        ("utils.general", "check_requirements", True),
        ("utils.general", "check_font", None),
        ("utils.plots", "check_font", None),
        ("utils.downloads", "attempt_download_from_hub", None),
        ("models.common", "attempt_download_from_hub", None),
        ("utils.dataloaders", "check_requirements", True),
    ],
)
def test_host_does_not_ask(module, name, expected):
    host = __import__(f"yolov5.{module}", fromlist=[name])
    arguments = [] if name == "check_online" else ["someone/something"]
    assert getattr(host, name)(*arguments) is expected


def test_replaced_puts_back_after_an_error():
    class Owner:
        value = 1

    with pytest.raises(KeyError), compat.replaced(Owner, value=2):
        assert Owner.value == 2
        raise KeyError
    assert Owner.value == 1


def test_a_module_is_imported_when_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "heavy_module.py").write_text("import sys\nsys.heavy = True\ncolour = 'red'\n")
    with compat._imported_later("heavy_module"):
        import heavy_module as later
    assert not hasattr(sys, "heavy") and "heavy_module" not in sys.modules
    assert later.colour == "red" and sys.heavy
    del sys.heavy
    with compat._imported_later("heavy_module"):  # it is there already
        import heavy_module
    assert heavy_module is sys.modules["heavy_module"] and heavy_module.colour == "red"


def test_file_names_are_those_of_the_stack():
    names = [frame.filename for frame in compat._file_names()]
    assert names == [frame.filename for frame in inspect.stack()]


def test_mend_is_idempotent():
    before = (np.trapz, ImageFont.FreeTypeFont.getsize)
    compat.mend()
    assert (np.trapz, ImageFont.FreeTypeFont.getsize) == before
    assert Path(compat.local_file(__file__)) == Path(__file__)
