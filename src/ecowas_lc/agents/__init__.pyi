from .base_agent import (
    BaseAgent as BaseAgent,
)
from .create_agents import (
    create_agriculture_agent as create_agriculture_agent,
)
from .create_agents import (
    create_digital_agent as create_digital_agent,
)
from .create_agents import (
    create_energy_agent as create_energy_agent,
)
from .create_agents import (
    create_minerals_agent as create_minerals_agent,
)
from .create_agents import (
    create_protocol_agent as create_protocol_agent,
)
from .create_agents import (
    create_resource_mobilization_agent as create_resource_mobilization_agent,
)
from .create_agents import (
    create_supervisor as create_supervisor,
)
from .redis_agent import (
    RedisAgent as RedisAgent,
)
from .supervisor import (
    SupervisorAgent as SupervisorAgent,
)
