from .approval import (
    reviewed as reviewed,
)
from .as_tools import (
    twg_tools as twg_tools,
)
from .graph import (
    build_supervisor as build_supervisor,
)
from .state import (
    Decision as Decision,
)
from .state import (
    Report as Report,
)
from .state import (
    Summary as Summary,
)
from .state import (
    SupervisorInput as SupervisorInput,
)
from .state import (
    SupervisorOutput as SupervisorOutput,
)
from .state import (
    SupervisorState as SupervisorState,
)
from .state import (
    Synthesis as Synthesis,
)
from .supervisor_graph import (
    SupervisorResult as SupervisorResult,
)
