"""The agents behind a task queue: a nightly clean-up, and questions answered in the background.

    pip install celery
    celery -A examples.celery_tasks worker --beat

    from examples.celery_tasks import answer
    print(answer.delay("my-session", "What is a power pool?").get(timeout=300))

The Redis server of your settings (REDIS_URL, or REDIS_HOST and its parts) is also the broker; the embedded server
can't be. The package's keys start with `celery-example:`, unless you set ECOWAS_LC_PREFIX, and Celery's own with
`{prefix}-celery:`. The clean-up deletes idle sessions under that prefix only.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from celery import Celery
from celery.schedules import crontab

from ecowas_lc import (
    ModelServerUnavailableError,
    ModelTimeoutError,
    RedisSaver,
    RedisUnavailableError,
    create_supervisor,
    get_redis_memory,
    get_settings,
)

os.environ.setdefault("ECOWAS_LC_PREFIX", "celery-example")

IDLE_DAYS = 30


def broker_url() -> str:
    settings = get_settings()
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    login = ""
    if settings.redis_password:
        login = (
            f"{quote(settings.redis_username or '', '')}:{quote(settings.redis_password.get_secret_value(), '')}@"
        )
    return f"redis://{login}{settings.redis_host}:{settings.redis_port}/{settings.redis_db}"


_prefix = {"global_keyprefix": f"{get_settings().prefix}-celery:"}

app = Celery("ecowas", broker=broker_url(), backend=broker_url())
app.conf.update(
    broker_transport_options=_prefix,
    result_backend_transport_options=_prefix,
    broker_connection_retry_on_startup=True,
    task_acks_late=True,  # a worker that dies in mid-answer leaves the question to another, which asks it anew
    task_reject_on_worker_lost=True,
    task_time_limit=600,
    worker_prefetch_multiplier=1,
    result_expires=timedelta(hours=1),
    timezone="UTC",
    beat_schedule={"nightly-clean-up": {"task": "ecowas.clean_up", "schedule": crontab(hour=2, minute=30)}},
)


@app.task(name="ecowas.clean_up", autoretry_for=(RedisUnavailableError,), retry_backoff=True, max_retries=5)
def clean_up(idle_days: float = IDLE_DAYS) -> dict[str, int]:
    """Delete sessions without messages in the last ``idle_days`` days, whatever their time to live."""
    memory = get_redis_memory()
    saver = RedisSaver.from_settings()
    before = datetime.now(UTC) - timedelta(days=idle_days)
    newest: dict[str, datetime] = {}
    for info in memory.get_session_infos():
        last = info.last_activity or datetime.now(UTC)  # not known: another program wrote it
        newest[info.session_id] = max(last, newest.get(info.session_id, last))
    idle = [session_id for session_id, last in newest.items() if last < before]
    for session_id in idle:
        memory.clear_session(session_id)
        saver.delete_thread(session_id)
    return {"sessions": len(newest), "forgotten": len(idle)}


@app.task(
    name="ecowas.answer",
    autoretry_for=(ModelServerUnavailableError, ModelTimeoutError),
    retry_backoff=True,
    max_retries=3,
)
def answer(session_id: str, prompt: str) -> dict[str, Any]:
    """Ask the supervisor in a session; the answer, and the groups that were asked."""
    supervisor = create_supervisor(session_id=session_id, use_redis=True)
    text = supervisor.smart_chat(prompt)
    return {"answer": text, "groups": supervisor.get_supervisor_status()["last_decision"]["groups"]}
