"""Quality of the routers: figures per router, group and language, and a picture of their confusions.

``python -m ecowas_lc.supervisor.evaluation`` prints the table for the sets that ship with the package.
"""

from __future__ import annotations

from ecowas_lc.supervisor.evaluation.comparison import (
    Comparison,
    compare_routers,
    measure_model,
    usable_routers,
)
from ecowas_lc.supervisor.evaluation.dialogues import (
    MOVES,
    DialogueReport,
    DialogueScore,
    TurnMistake,
    evaluate_dialogues,
)
from ecowas_lc.supervisor.evaluation.presentation import draw_confusion, format_dialogues, format_table
from ecowas_lc.supervisor.evaluation.report import (
    GroupScore,
    LanguageScore,
    Mistake,
    RouterReport,
    evaluate,
)
from ecowas_lc.supervisor.routing.measurement import ModelMeasurement, save_measurement
from ecowas_lc.twg import (
    Dialogue,
    LabelledQuestion,
    LabelledTurn,
    evaluation_dialogues,
    evaluation_set,
    load_dialogues,
    load_questions,
)

__all__ = [
    "MOVES",
    "Comparison",
    "Dialogue",
    "DialogueReport",
    "DialogueScore",
    "GroupScore",
    "LabelledQuestion",
    "LabelledTurn",
    "LanguageScore",
    "Mistake",
    "ModelMeasurement",
    "RouterReport",
    "TurnMistake",
    "compare_routers",
    "draw_confusion",
    "evaluate",
    "evaluate_dialogues",
    "evaluation_dialogues",
    "evaluation_set",
    "format_dialogues",
    "format_table",
    "load_dialogues",
    "load_questions",
    "measure_model",
    "save_measurement",
    "usable_routers",
]
