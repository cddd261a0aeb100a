"""What mkdocs does besides, when it makes the pages a site.

Files outside of docs/ that the pages link to become part of the site, and the links fit there:
`../examples/my_modules.py` is right where a page is read in the clone, and in the site that file is
`examples/my_modules.py`. An option such as `--round-to` is not broken at its hyphens. The index of
the search is there as a script, too, so that the search works where a page is opened as a file
(js/worker-from-file.js).
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
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


def on_page_content(html: str, **_: object) -> str:
    parts = re.split(r"(<pre.*?</pre>)", html, flags=re.DOTALL)
    parts[::2] = [re.sub(r"<code>.*?</code>", whole_options, part) for part in parts[::2]]
    return "".join(parts)


def whole_options(code: re.Match[str]) -> str:
    """The same code, with each option and a short value after it as one word."""
    option = r"(?<![\w-])--?[a-z][\w-]*(?: [\w.]{1,8}(?=[ <]))?"
    return re.sub(option, r'<span class="option">\g<0></span>', code[0])


@event_priority(-100)  # after the search has written its index
def on_post_build(*, config: MkDocsConfig) -> None:
    folder = Path(config.site_dir, "search")
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
