"""Pictures made of text: Mermaid, and plain characters."""

from __future__ import annotations

import re
from textwrap import wrap
from unicodedata import east_asian_width, normalize

from ecowas_lc.drawing.plan import END, START, Plan

TAKEN, UNTAKEN = "#0072B2", "#8a8a8a"  # told apart by the colour-blind; thickness tells the same
_ASCII_COLUMNS = 79


def mermaid(plan: Plan) -> str:
    """Return the graph in Mermaid's language."""
    ids = {node: f"n{number}" for number, node in enumerate(plan.nodes)}
    lines = ["flowchart LR"]
    for node in plan.nodes:
        label = mermaid_text(plan.label(node))
        lines.append(f'  {ids[node]}(["{label}"])' if node in (START, END) else f'  {ids[node]}["{label}"]')
    lines += [f"  {ids[source]} --> {ids[target]}" for source, target in plan.edges]
    if plan.taken is not None:
        lines.append(f"  classDef taken fill:#d6ebf7,stroke:{TAKEN},stroke-width:3px,color:#000")
        lines.append(f"  classDef untaken fill:#fff,stroke:{UNTAKEN},color:#555")
        for name, members in (
            ("taken", [ids[n] for n in plan.nodes if n in plan.visited]),
            ("untaken", [ids[n] for n in plan.nodes if n not in plan.visited]),
        ):
            if members:
                lines.append(f"  class {','.join(members)} {name}")
        thick = [str(number) for number, edge in enumerate(plan.edges) if edge in plan.taken]
        if thick:
            lines.append(f"  linkStyle {','.join(thick)} stroke:{TAKEN},stroke-width:3px")
    return "\n".join(lines) + "\n"


def ascii_text(plan: Plan) -> str:
    """Return the graph in plain ASCII: each node with those it leads to, ``*`` and ``=>`` on the route."""
    names = {node: _ascii(node.strip("_")) for node in plan.nodes}
    indent = max(map(len, names.values())) + 4
    lines = []
    for node in plan.nodes:
        targets = [target for source, target in plan.edges if source == node]
        taken = [target for target in targets if (node, target) in (plan.taken or ())]
        untaken = [target for target in targets if target not in taken]
        head = f"{'*' if node in plan.visited else ' '} {names[node]}"
        for arrow, some in (("=>", taken), ("->", untaken)):
            if some:
                listed = ", ".join(names[target] for target in some)
                room = max(_ASCII_COLUMNS - indent - 3, 20)
                first, *more = wrap(listed, room, break_long_words=False, break_on_hyphens=False)
                lines.append(f"{head:<{indent}}{arrow} {first}")
                lines += [f"{'':<{indent + 3}}{line}" for line in more]
                head = ""
        if head:
            lines.append(head)
    if plan.taken is not None:
        lines += ["", "* and => mark the route that the run took."]
    return "\n".join(lines) + "\n"


def _ascii(text: str) -> str:
    return normalize("NFKD", text).encode("ascii", "ignore").decode() or "?"


def cells(text: str) -> int:
    """Return how many letters wide text is; Chinese, Japanese and Korean ones count twice."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def shortened(text: str, most: int, end: str = "…") -> str:
    """Return text on one line, cut at a blank, or where there is none in a word, if it is longer than ``most``."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    kept = text[: most - len(end)]
    at_a_blank = kept.rpartition(" ")[0]
    return (at_a_blank if len(at_a_blank) > most // 2 else kept).rstrip() + end


def mermaid_text(text: str) -> str:
    """Return text as Mermaid takes it between quotes."""
    return re.sub(r"[^\w .,:()/+-]", lambda match: f"#{ord(match[0])};", text)
