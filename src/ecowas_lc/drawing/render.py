"""The child process of :func:`ecowas_lc.drawing.graph_picture.rendered`, which runs Graphviz."""

from __future__ import annotations

import sys


def main() -> None:  # pragma: no cover - it runs by path, so coverage does not know its package
    """Draw the graph from standard input in the format that the only argument names."""
    import pygraphviz

    graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
    graph.layout("dot")
    sys.stdout.buffer.write(graph.draw(format=sys.argv[1]))


if __name__ == "__main__":
    main()
