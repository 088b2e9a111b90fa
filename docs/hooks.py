"""What pages need that Markdown lacks: the commands, notebooks, a section of the README, and Sphinx roles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

_ROOT = Path(__file__).parents[1]
_ROLE = re.compile(r":(?:class|meth|func|data|mod|attr|exc):<code>~?([^<]*)</code>")
_SECTION = re.compile("<!-- comparison -->\n(.*?)<!-- /comparison -->", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each notebook as a page, with the outputs that are stored in it."""
    for path in sorted((_ROOT / "notebooks").glob("*.ipynb")):
        name = f"notebooks/{path.stem}"
        notebook = nbformat.read(path, as_version=4)
        exporter = MarkdownExporter()
        text, resources = exporter.from_notebook_node(notebook, {"output_files_dir": path.stem})
        files.append(File.generated(config, f"{name}.md", content=_without_folder_links(text)))
        for output, content in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{output}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the README's comparison and the commands where a page asks for them."""
    if "<!-- comparison -->" in markdown:
        [section] = _SECTION.findall((_ROOT / "README.md").read_text(encoding="utf-8"))
        markdown = markdown.replace("<!-- comparison -->", section.replace("](docs/", "]("))
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", commands())
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Show ``:class:`X``` as only the name."""
    return _ROLE.sub(r"<code>\1</code>", html)


def commands() -> str:
    """Return every command with its arguments and options, from the commands themselves."""
    import typer
    from typer.cli import get_docs_for_click

    from ecowas_lc.cli.commands import app

    group = typer.main.get_command(app)
    text = get_docs_for_click(obj=group, ctx=typer.Context(group, info_name="ecowas-lc"), name="ecowas-lc")
    text = "\n## " + text.partition("\n## ")[2]  # the page says itself what the program is
    text = re.sub(r"^\* `--(?:help|debug)`: .*\n", "", text, flags=re.MULTILINE)  # every command has these
    text = re.sub(r"\*\*Options\*\*:\n+(?=#|\Z)", "", text)
    return re.sub(r"^(#+) `([^`]*)`$", r"#\1 \2", text, flags=re.MULTILINE)


def _without_folder_links(text: str) -> str:
    """Point links from the notebooks' folder at pages of the site, and put code blocks' language right."""
    return text.replace("](../docs/", "](../").replace(".ipynb)", ".md)")
