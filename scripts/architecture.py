"""Draw the packages and their imports, as they stand in the code, to docs/pictures/architecture.svg.

Run it with ``make architecture``. An arrow points from the importer to what it imports; arrows that a longer path
already shows are left out.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp
import pygraphviz

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
PACKAGE = "ecowas_lc"
# Modules that everything may import; their arrows would cover the picture.
GROUND = frozenset({"errors", "settings", "_connection_settings", "_version"})


def floors() -> list[list[str]]:
    """Return the layers of the import contract in pyproject.toml, top first, each a list of packages."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers")
    return [[name.strip().strip("()") for name in layer.replace(":", "|").split("|")] for layer in layers]


def imports() -> set[tuple[str, str]]:
    """Return pairs (importer, imported) of packages, without those that a longer path implies."""
    graph = grimp.build_graph(PACKAGE, include_external_packages=False, exclude_type_checking_imports=True)
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = (_top(module), _top(imported))
            if pair[0] != pair[1] and "" not in pair and not GROUND.intersection(pair):
                found.add(pair)
    return {pair for pair in found if not _has_longer_path(pair, found)}


def _top(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]


def _has_longer_path(pair: tuple[str, str], pairs: set[tuple[str, str]]) -> bool:
    start, end = pair
    left = [imported for importer, imported in pairs if importer == start and imported != end]
    seen: set[str] = set()
    while left:
        name = left.pop()
        if name == end:
            return True
        if name not in seen:
            seen.add(name)
            left += [imported for importer, imported in pairs if importer == name]
    return False


def drawn() -> bytes:
    """Return the picture as SVG."""
    graph = pygraphviz.AGraph(directed=True, rankdir="TB", nodesep="0.3", ranksep="0.45", bgcolor="transparent")
    graph.node_attr.update(
        shape="box",
        style="rounded,filled",
        fillcolor="#eef3f8",
        color="#5b7a99",
        fontname="Helvetica",
        fontsize="12",
    )
    graph.edge_attr.update(color="#7a8ea3", arrowsize="0.7")
    for number, names in enumerate(layer for layer in floors() if not GROUND.issuperset(layer)):
        graph.add_nodes_from(names)
        graph.add_subgraph(names, name=f"floor{number}", rank="same")
    graph.add_edges_from(sorted(imports()))
    return graph.draw(format="svg", prog="dot")


if __name__ == "__main__":
    PICTURE.write_bytes(drawn())
    print(f"Wrote {PICTURE.relative_to(ROOT)}")
