from ._erasure import (
    ErasureReceipt as ErasureReceipt,
)
from ._erasure import (
    aerase as aerase,
)
from ._erasure import (
    erase as erase,
)
from ._version import (
    __version__ as __version__,
)
from .agents import (
    BaseAgent as BaseAgent,
)
from .agents import (
    RedisAgent as RedisAgent,
)
from .agents import (
    SupervisorAgent as SupervisorAgent,
)
from .agents import (
    create_agriculture_agent as create_agriculture_agent,
)
from .agents import (
    create_digital_agent as create_digital_agent,
)
from .agents import (
    create_energy_agent as create_energy_agent,
)
from .agents import (
    create_minerals_agent as create_minerals_agent,
)
from .agents import (
    create_protocol_agent as create_protocol_agent,
)
from .agents import (
    create_resource_mobilization_agent as create_resource_mobilization_agent,
)
from .agents import (
    create_supervisor as create_supervisor,
)
from .checkpoint import (
    ChannelChange as ChannelChange,
)
from .checkpoint import (
    EncryptedRedisSerializer as EncryptedRedisSerializer,
)
from .checkpoint import (
    MigrationReport as MigrationReport,
)
from .checkpoint import (
    OpaqueValue as OpaqueValue,
)
from .checkpoint import (
    RedisSaver as RedisSaver,
)
from .checkpoint import (
    SavedThread as SavedThread,
)
from .checkpoint import (
    ThreadDifference as ThreadDifference,
)
from .checkpoint import (
    ThreadRow as ThreadRow,
)
from .checkpoint import (
    amigrate_threads as amigrate_threads,
)
from .checkpoint import (
    migrate_threads as migrate_threads,
)
from .documents import (
    Documents as Documents,
)
from .documents import (
    GroundedAnswer as GroundedAnswer,
)
from .documents import (
    check_answer as check_answer,
)
from .documents import (
    grounded_answer as grounded_answer,
)
from .drawing import (
    ActivityPicture as ActivityPicture,
)
from .drawing import (
    Failure as Failure,
)
from .drawing import (
    GraphPicture as GraphPicture,
)
from .drawing import (
    Moment as Moment,
)
from .drawing import (
    Request as Request,
)
from .drawing import (
    RoutePicture as RoutePicture,
)
from .drawing import (
    StatePicture as StatePicture,
)
from .drawing import (
    ThreadPicture as ThreadPicture,
)
from .drawing import (
    adraw_thread as adraw_thread,
)
from .drawing import (
    draw_activity as draw_activity,
)
from .drawing import (
    draw_graph as draw_graph,
)
from .drawing import (
    draw_route as draw_route,
)
from .drawing import (
    draw_state as draw_state,
)
from .drawing import (
    draw_thread as draw_thread,
)
from .errors import (
    AsyncToolError as AsyncToolError,
)
from .errors import (
    CheckpointConflictError as CheckpointConflictError,
)
from .errors import (
    ConfigurationError as ConfigurationError,
)
from .errors import (
    ContextOverflowError as ContextOverflowError,
)
from .errors import (
    CorruptDataError as CorruptDataError,
)
from .errors import (
    DecisionPendingError as DecisionPendingError,
)
from .errors import (
    DecryptionError as DecryptionError,
)
from .errors import (
    DimensionMismatchError as DimensionMismatchError,
)
from .errors import (
    EcowasError as EcowasError,
)
from .errors import (
    EmbeddedServerError as EmbeddedServerError,
)
from .errors import (
    EmptyQuestionError as EmptyQuestionError,
)
from .errors import (
    FormatVersionError as FormatVersionError,
)
from .errors import (
    IncompleteWarning as IncompleteWarning,
)
from .errors import (
    InvalidDecisionError as InvalidDecisionError,
)
from .errors import (
    InvalidIdError as InvalidIdError,
)
from .errors import (
    InvalidInputError as InvalidInputError,
)
from .errors import (
    ItemConflictError as ItemConflictError,
)
from .errors import (
    LoopBudgetError as LoopBudgetError,
)
from .errors import (
    MissingExtraError as MissingExtraError,
)
from .errors import (
    ModelCapabilityError as ModelCapabilityError,
)
from .errors import (
    ModelError as ModelError,
)
from .errors import (
    ModelNotFoundError as ModelNotFoundError,
)
from .errors import (
    ModelServerUnavailableError as ModelServerUnavailableError,
)
from .errors import (
    ModelTimeoutError as ModelTimeoutError,
)
from .errors import (
    NotReplicatedError as NotReplicatedError,
)
from .errors import (
    NotSerializableError as NotSerializableError,
)
from .errors import (
    NotWaitingError as NotWaitingError,
)
from .errors import (
    RedisRefusedError as RedisRefusedError,
)
from .errors import (
    RedisTimeoutError as RedisTimeoutError,
)
from .errors import (
    RedisUnavailableError as RedisUnavailableError,
)
from .errors import (
    StorageError as StorageError,
)
from .errors import (
    SupervisorError as SupervisorError,
)
from .errors import (
    ThreadBusyError as ThreadBusyError,
)
from .errors import (
    ThreadGoneError as ThreadGoneError,
)
from .errors import (
    TooLargeError as TooLargeError,
)
from .errors import (
    TurnStoppedError as TurnStoppedError,
)
from .errors import (
    TypeNotAllowedError as TypeNotAllowedError,
)
from .errors import (
    UnknownCheckpointError as UnknownCheckpointError,
)
from .errors import (
    UnknownGroupError as UnknownGroupError,
)
from .errors import (
    UnknownSettingWarning as UnknownSettingWarning,
)
from .errors import (
    UnreadableDocumentError as UnreadableDocumentError,
)
from .errors import (
    WrongTypeError as WrongTypeError,
)
from .history import (
    RedisChatMessageHistory as RedisChatMessageHistory,
)
from .history import (
    ahistory_to_thread as ahistory_to_thread,
)
from .history import (
    athread_to_history as athread_to_history,
)
from .history import (
    history_factory as history_factory,
)
from .history import (
    history_to_thread as history_to_thread,
)
from .history import (
    thread_to_history as thread_to_history,
)
from .llm import (
    LLMService as LLMService,
)
from .llm import (
    get_llm_service as get_llm_service,
)
from .llm import (
    make_chat_model as make_chat_model,
)
from .llm.agent_middleware import (
    GuardedContextMiddleware as GuardedContextMiddleware,
)
from .llm.guarded import (
    GuardedChatOllama as GuardedChatOllama,
)
from .memory import (
    AsyncRedisMemoryService as AsyncRedisMemoryService,
)
from .memory import (
    ImportReport as ImportReport,
)
from .memory import (
    RedisMemoryService as RedisMemoryService,
)
from .memory import (
    SessionInfo as SessionInfo,
)
from .memory import (
    create_redis_memory_from_config as create_redis_memory_from_config,
)
from .memory import (
    get_async_redis_memory as get_async_redis_memory,
)
from .memory import (
    get_redis_memory as get_redis_memory,
)
from .memory import (
    test_redis_connection as test_redis_connection,
)
from .metrics import (
    Metrics as Metrics,
)
from .settings import (
    Settings as Settings,
)
from .settings import (
    get_settings as get_settings,
)
from .store import (
    RedisLLMCache as RedisLLMCache,
)
from .store import (
    RedisStore as RedisStore,
)
from .store import (
    RedisVectorStore as RedisVectorStore,
)
from .supervisor import (
    Report as Report,
)
from .supervisor import (
    SupervisorOutput as SupervisorOutput,
)
from .supervisor import (
    SupervisorResult as SupervisorResult,
)
from .supervisor import (
    Synthesis as Synthesis,
)
from .supervisor import (
    build_supervisor as build_supervisor,
)
from .supervisor import (
    reviewed as reviewed,
)
from .supervisor import (
    twg_tools as twg_tools,
)
from .supervisor.routing import (
    PastTurn as PastTurn,
)
from .supervisor.routing import (
    RouteDecision as RouteDecision,
)
from .supervisor.routing import (
    Router as Router,
)
from .supervisor.routing import (
    get_router as get_router,
)
from .twg import (
    TWG as TWG,
)
from .twg import (
    default_groups as default_groups,
)
