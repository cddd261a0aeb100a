"""What the README says can be run."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from yolo_slim import load, save

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "CONTRIBUTING.md"]
SCRIPTS = {
    "train_sparse.py": "sparse",
    "prune.py": "prune",
    "finetune_pruned.py": "finetune",
    "export.py": "export",
}


def test_python_example(
    tiny_model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "best.pt")
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code) == 1
    exec(code[0], {})
    params = [sum(p.numel() for p in load(f).model.parameters()) for f in ("best.pt", "pruned.pt")]
    assert params[1] < 0.6 * params[0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_exist(script: str, capsys: pytest.CaptureFixture) -> None:
    """Every option that a text gives to one of our scripts is one that it has."""
    with pytest.raises(SystemExit) as end:
        import_module(f"yolo_slim.commands.{SCRIPTS[script]}").main(["--help"])
    assert end.value.code == 0
    known = set(re.findall(r"--?[a-z][\w-]*", capsys.readouterr().out))
    lines = [
        line.split("#")[0]
        for text in TEXTS
        for line in text.read_text().splitlines()
        if line.strip().startswith(f"python {script}")
    ]
    used = {option for line in lines for option in re.findall(r"\s(--[a-z][\w-]*)", line)}
    assert lines
    assert used <= known


def test_saved_checkpoint_loads_in_a_new_process(tiny_model: nn.Module, tmp_path: Path) -> None:
    from yolo_slim import prune

    pruned = prune(tiny_model, 0.5, imgsz=64)
    save(pruned, tmp_path / "pruned.pt")
    image = torch.rand(1, 3, 64, 64)
    torch.save(image, tmp_path / "image.pt")
    with torch.no_grad():
        expected = load(tmp_path / "pruned.pt").model(image)[0]
    code = (
        "import sys, torch; from yolo_slim import load; folder = sys.argv[1];"
        "image = torch.load(folder + '/image.pt');"
        "torch.save(load(folder + '/pruned.pt').model(image)[0].detach(), folder + '/out.pt')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path)
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected, rtol=1e-5, atol=1e-4)
