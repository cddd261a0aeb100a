"""The site also has the files outside of docs/ that its pages link to, and the links fit there.

`../examples/my_modules.py` is right where a page is read in the clone. In the site that file is
`examples/my_modules.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md"}  # to the site's name
OUTSIDE |= {
    name: name
    for kind in ("*.py", "*.md")
    for name in (file.relative_to(ROOT).as_posix() for file in (ROOT / "examples").rglob(kind))
}
INSIDE = {name: clone for clone, name in OUTSIDE.items()}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for clone, name in OUTSIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / clone)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Each link from the place of its file in the clone to the place in the site."""
    here = page.file.src_uri
    clone = INSIDE.get(here, f"docs/{here}")

    def moved(link: re.Match[str]) -> str:
        target = normpath(join(dirname(clone), link[1]))
        if target not in OUTSIDE and not (here in INSIDE and target.startswith("docs/")):
            return link[0]
        name = OUTSIDE.get(target, target.removeprefix("docs/"))
        return f"]({relpath(name, dirname(here) or '.')}"

    return re.sub(r"\]\(([^)\s#:]+)", moved, markdown)
