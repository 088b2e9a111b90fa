"""Draws the pictures of the docs' page on notebooks: each display as a browser shows it, light and dark.

``python scripts/displays.py [FOLDER] [NAME…]`` needs the extras and Chromium; ``make displays`` runs it.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
PICTURES = ROOT / "docs" / "pictures" / "notebook"
WIDTH = 900


def page_of(bundle: dict[str, Any], *, styled: bool = True) -> str:
    """Return a page that holds what a notebook's cell would."""
    body = bundle.get("text/html") or bundle.get("image/svg+xml")
    if body is None and "image/png" in bundle:
        data = bundle["image/png"]
        encoded = data if isinstance(data, str) else base64.b64encode(data).decode()
        body = f'<img alt="" src="data:image/png;base64,{encoded}">'
    if not styled:
        body = body.split("</style>", 1)[-1] if body.startswith("<style>") else body
    return (
        "<!doctype html><meta charset=utf-8><style>body{margin:14px;background:#fff;font:14px sans-serif}"
        f"@media(prefers-color-scheme:dark){{body{{background:#111}}}}</style><body>{body}</body>"
    )


def shots(bundles: dict[str, dict[str, Any]], folder: Path, *, plain: bool = False) -> None:
    """Write a picture of each bundle, light and dark; with ``plain``, also without its styles."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
        for scheme in ("light", "dark"):
            page = browser.new_page(
                viewport={"width": WIDTH, "height": 40}, color_scheme=scheme, device_scale_factor=1.25
            )
            for name, bundle in bundles.items():
                for styled in (True, False) if plain and scheme == "light" else (True,):
                    page.set_content(page_of(bundle, styled=styled))
                    suffix = "" if styled else "-plain"
                    path = folder / f"{name}-{scheme}{suffix}.png"
                    page.screenshot(path=path, full_page=True)
                    few = Image.open(path).convert("RGB").quantize(128)  # a third of the size
                    few.save(path, optimize=True)
        browser.close()


def main(arguments: list[str]) -> int:
    """Draw the pictures; the exit status is 0."""
    from tests.display.samples import samples
    from tests.fixtures.servers import running_server

    folder = Path(arguments[0]) if arguments else PICTURES
    chosen = set(arguments[1:])
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"ECOWAS_LC_DATA_DIR": name, "ECOWAS_LC_LINGER_SECONDS": "0"}
        from ecowas_lc.storage.server import Server

        with running_server("redis") as running:
            server = Server.from_url(running.url)
            with samples(server, "docs") as found:
                bundles = {
                    name: shown._repr_mimebundle_()
                    for name, shown in found.objects.items()
                    if not chosen or name in chosen
                }
            server.close()
    for name, bundle in bundles.items():
        for kind in bundle:
            if isinstance(bundle[kind], str):
                bundle[kind] = bundle[kind].replace(running.url, "redis://localhost:6379")
                bundle[kind] = bundle[kind].replace(f"127.0.0.1:{running.port}", "localhost:6379")
        if "can't be shown" in bundle.get("text/html", ""):
            sys.stderr.write(f"{name}: {bundle['text/html'][-600:]}\n")
    shots(bundles, folder, plain=bool(os.environ.get("PLAIN")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
