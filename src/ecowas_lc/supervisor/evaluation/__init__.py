"""How good the routers are: figures per router, group and language, and a picture of what they confuse.

``python -m ecowas_lc.supervisor.evaluation`` prints the table for the sets that ship with the package.
"""

from __future__ import annotations

from ecowas_lc.supervisor.evaluation.comparison import (
    Comparison,
    compare_routers,
    measure_model,
    usable_routers,
)
from ecowas_lc.supervisor.evaluation.picture import draw_confusion
from ecowas_lc.supervisor.evaluation.report import (
    GroupScore,
    LanguageScore,
    Mistake,
    RouterReport,
    evaluate,
)
from ecowas_lc.supervisor.evaluation.table import format_table
from ecowas_lc.supervisor.routing.measurement import ModelMeasurement, save_measurement
from ecowas_lc.twg import LabelledQuestion, evaluation_set, load_questions

__all__ = [
    "Comparison",
    "GroupScore",
    "LabelledQuestion",
    "LanguageScore",
    "Mistake",
    "ModelMeasurement",
    "RouterReport",
    "compare_routers",
    "draw_confusion",
    "evaluate",
    "evaluation_set",
    "format_table",
    "load_questions",
    "measure_model",
    "save_measurement",
    "usable_routers",
]
