"""What the README says can be run."""

from __future__ import annotations

import re
from ast import literal_eval
from importlib import import_module
from pathlib import Path

import pytest
from torch import nn

from yolo_slim import load, save
from yolo_slim.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


def test_pip_install_leaves_no_package_out() -> None:
    listed = re.search(r"^packages = (\[.*?\])", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert listed
    homes = [file.parent for file in (ROOT / "yolo_slim").rglob("__init__.py")]
    there = {".".join(home.relative_to(ROOT).parts) for home in homes}
    assert set(literal_eval(listed[1])) == there | {"yolo_slim.cfg", "yolo_slim.data"}


def test_options_of_the_console_command_exist(capsys: pytest.CaptureFixture) -> None:
    """The same of `yolo-slim <command> ...`."""
    seen = set()
    for text in TEXTS:
        for line in re.findall(r"^ +yolo-slim (.*)$", text.read_text(), re.MULTILINE):
            command, *words = line.split("#")[0].split()
            with pytest.raises(SystemExit):
                import_module(f"yolo_slim.commands.{command}").main(["--help"])
            known = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
            assert {word for word in words if word.startswith("--")} <= known, line
            seen.add(command)
    assert {"sensitivity", "finegrained", "bench"} <= seen


def test_the_criterion_and_the_shares_that_the_docs_show(
    tiny_model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_slim.cli import run

    monkeypatch.chdir(tmp_path)
    save(tiny_model, "best.pt")
    page = (ROOT / "docs" / "choosing.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (shares,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    Path("mine.py").write_text(code)
    Path("ratios.yaml").write_text(shares.replace("model.9", "model.8"))  # 9 has no BN here
    argv = ["--weights", "best.pt", "--imgsz", "64", "--round-to", "1"]
    assert run("prune", [*argv, "--modules", "mine.py", "--criterion", "mine"]) == 0
    assert run("prune", [*argv, "--budget", "ratios.yaml"]) == 0
    masks = [load(f"runs/prune/{name}/pruned.pt").model.maskbndict for name in ("exp", "exp2")]
    gamma = tiny_model.get_submodule("model.6.bn").weight.abs()
    kept = masks[0]["model.6.bn"]
    assert gamma[kept].min() >= gamma[~kept].max()
    assert [int(masks[1][f"model.{i}.bn"].sum()) for i in (6, 8)] == [64, 32 - round(0.3 * 32)]


def test_options_in_the_prose_exist(capsys: pytest.CaptureFixture) -> None:
    """Every option between backticks is one of a command or of a benchmark."""
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            import_module(f"yolo_slim.commands.{command}").main(["--help"])
    known = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    for file in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r"--[a-z][\w-]*", file.read_text()))
    spans = [s for text in TEXTS for s in re.findall(r"`[^`\n]+`", text.read_text())]
    used = {option for span in spans for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
    assert {"--keep", "--ratio", "--residual", "--include", "--modules"} <= used
    assert used <= known


def test_the_rules_that_the_docs_show_are_the_examples() -> None:
    page = (ROOT / "docs" / "own-modules.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = (ROOT / "examples" / "my_modules.py").read_text()
    assert [part.split("(")[1].split(")")[0] for part in code] == ["SE", "WeightedAdd"]
    assert all(part in example for part in code)


def test_links_lead_somewhere() -> None:
    for text in TEXTS:
        for link in re.findall(r"\]\(([^)#]+)\)", text.read_text()):
            assert (text.parent / link).exists(), f"{text.name}: {link}"
