from .differences import (
    ChannelChange as ChannelChange,
)
from .differences import (
    ThreadDifference as ThreadDifference,
)
from .encryption import (
    EncryptedRedisSerializer as EncryptedRedisSerializer,
)
from .listing import (
    ThreadRow as ThreadRow,
)
from .migration import (
    MigrationReport as MigrationReport,
)
from .migration import (
    amigrate_threads as amigrate_threads,
)
from .migration import (
    migrate_threads as migrate_threads,
)
from .saved_thread import (
    SavedThread as SavedThread,
)
from .saver import (
    RedisSaver as RedisSaver,
)
from .viewing import (
    OpaqueValue as OpaqueValue,
)
