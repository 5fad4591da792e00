"""Replace links to files outside docs/ by their paths: the site has only the pages, a checkout also the code."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """MkDocs calls this for every page, before it looks for the pages that links name."""
    folder = Path(page.file.abs_src_path).parent
    root = Path(config.config_file_path).parent
    pages = Path(config.docs_dir)

    def path_of_code(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(pages) or not target.exists():
            return link[0]
        path = PurePosixPath(target.relative_to(root))
        name = link[1].strip("`")
        return f"`{path}`" if name == path.name else f"{link[1]} (`{path}`)"

    return LINK.sub(path_of_code, markdown)
