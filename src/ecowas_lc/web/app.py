"""The service as a router for your own application, and as a separate application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from langchain_core.language_models import BaseChatModel
from prometheus_client.core import GaugeMetricFamily

from ecowas_lc._version import __version__
from ecowas_lc.errors import EcowasError
from ecowas_lc.llm import LLMService, make_chat_model
from ecowas_lc.memory.service import ping_op
from ecowas_lc.metrics import Metrics
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.server import Server
from ecowas_lc.supervisor.double_texting import OnBusy
from ecowas_lc.supervisor.routing import Router
from ecowas_lc.twg import TWG, default_groups
from ecowas_lc.web.access import Access, checked_groups_of, organisations_op
from ecowas_lc.web.api import AnyJSON, add_api, problems
from ecowas_lc.web.middleware import Rate, guarding, principal_in
from ecowas_lc.web.open_pages import door
from ecowas_lc.web.organisation import Organisation
from ecowas_lc.web.pages import add_pages
from ecowas_lc.web.principals import Principal
from ecowas_lc.web.problems import PROBLEM, problem
from ecowas_lc.web.run_driver import end_tasks
from ecowas_lc.web.service import Data, Service
from ecowas_lc.web.sign_in import add_sign_in

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_ORGANISATIONS_SECONDS = 10.0
_MODEL_SECONDS = 10.0
_TEXT: dict[int | str, Data] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Web:
    """The state that all routes of one service share."""

    def __init__(
        self,
        settings: Settings,
        server: Server,
        make: Callable[[str], Organisation],
        *,
        path: str = "",
        on_busy: OnBusy = "refuse",
        lease_seconds: float = 6.0,
        drain_seconds: float = 20.0,
        model_name: str = "",
        model_note: str = "",
        model_health: Callable[[], Any] | None = None,
        checks: Callable[[], Sequence[Data]] | None = None,
    ) -> None:
        self.settings = settings
        self.server = server
        self.path = path
        self.access = Access(
            server,
            settings.prefix,
            proxies=settings.web_proxies,
            proxy_header=settings.web_proxy_header,
            proxy_role=settings.web_proxy_role,
        )
        self.requests = Rate(settings.web_requests_per_minute)
        self.questions = Rate(settings.web_questions_per_minute)
        self.sign_ins = Rate(30)
        self.longest_body_bytes = 262_144
        self.longest_upload_bytes = 32 * 1024 * 1024
        self.drain_seconds = drain_seconds
        self.is_draining = False
        self._make = make
        self._options: dict[str, Any] = {
            "on_busy": on_busy,
            "lease_seconds": lease_seconds,
            "model_name": model_name,
            "model_note": model_note,
            "model_health": model_health,
            "checks": checks,
        }
        self._look_seconds = min(_LOOK_SECONDS, lease_seconds / 3)
        self._services: dict[str, Service] = {}
        self._model: tuple[float, bool | None] = (0.0, None)
        self.metrics: Metrics | None = None

    @property
    def services(self) -> tuple[Service, ...]:
        """The services of the organisations that this process has handled so far."""
        return tuple(self._services.values())

    def service_for(self, principal: Principal) -> Service:
        """Return the service of a user's organisation."""
        return self.service_of(principal.prefix)

    def service_of(self, prefix: str) -> Service:
        """Return the service of an organisation."""
        if prefix not in self._services:
            self._services[prefix] = Service(self._make(prefix), **self._options)
            if self.metrics is not None:
                self.metrics.include(prefix)
        return self._services[prefix]

    @asynccontextmanager
    async def running(self, app: Any = None) -> AsyncIterator[None]:
        """Take over runs of ended processes while the block runs, then wait for this process's own runs to end."""
        await self.service_of(self.settings.prefix).organisation.prepare()
        looking = asyncio.create_task(self._looking())
        self.metrics = self.new_metrics()
        try:
            yield
        finally:
            await end_tasks(looking)
            try:
                await self.drain()
            finally:
                self.metrics.close()
                self.metrics = None

    def new_metrics(self) -> Metrics:
        """Return metrics that start counting now and include each known organisation's stored figures."""
        prefixes = {self.settings.prefix: None, **dict.fromkeys(self._services)}
        metrics = Metrics(self.server, prefixes)
        metrics.registry.register(_Runs(self))
        return metrics

    async def model_answers(self) -> bool | None:
        """Return whether the model's server answers, or ``None`` if unknown. Cached for a few seconds."""
        loop = asyncio.get_running_loop()
        until, answers = self._model
        if loop.time() >= until:
            answers = await self.service_of(self.settings.prefix).model_answers()
            self._model = loop.time() + _MODEL_SECONDS, answers
        return answers

    async def drain(self) -> None:
        """Refuse new runs, give running ones time to end, and leave the rest to other processes."""
        self.is_draining = True
        await asyncio.gather(*(service.driver.drain(self.drain_seconds) for service in self.services))

    def begin_draining(self) -> None:
        """Refuse new runs, and end the streams so that their readers reconnect to another process."""
        self.is_draining = True
        for service in self.services:
            service.driver.stop_serving()

    async def _looking(self) -> None:
        loop = asyncio.get_running_loop()
        known_until, is_known = 0.0, False  # valid until; is the error logged
        while True:
            try:
                if loop.time() > known_until:
                    for prefix in await self.server.arun(organisations_op(self.access.keys)):
                        self.service_of(prefix)
                    known_until = loop.time() + _ORGANISATIONS_SECONDS
                for service in self.services:
                    await service.driver.take_over()
                is_known = False
            except EcowasError as error:
                if not is_known:
                    log.warning("Can't look for runs of other processes: %s", error)
                is_known = True
            except Exception:
                log.exception("Can't look for runs of other processes.")
            await asyncio.sleep(self._look_seconds)


def make_web(
    settings: Settings | None = None,
    *,
    model: BaseChatModel | None = None,
    server: Server | None = None,
    groups: Sequence[TWG] | None = None,
    router: str | Router | None = None,
    held: Collection[str] | Literal["all"] | None = None,
    **options: Any,
) -> Web:
    """Return the state that a service's routes share. For the arguments, see :func:`create_app`."""
    settings = settings or get_settings()
    server = server or Server.from_settings(settings)
    if model is None:
        model = make_chat_model(settings)
        options.setdefault("model_name", settings.ollama_model)
        options.setdefault("model_health", LLMService(settings=settings, timeout=3.0).ahealth_check)
    chosen, connected = model, server
    kept_back = held_groups(settings.web_held_groups) if held is None else held
    if kept_back != "all":
        checked_groups_of(kept_back, [group.id for group in (default_groups() if groups is None else groups)])

    def make(prefix: str) -> Organisation:
        return Organisation(prefix, connected, settings, chosen, groups=groups, router=router, held=kept_back)

    return Web(settings, server, make, **options)


def held_groups(text: str) -> tuple[str, ...] | Literal["all"]:
    """Return the groups of a comma-separated setting, or ``"all"``."""
    names = tuple(filter(None, (word.strip() for word in text.split(","))))
    return "all" if names == ("all",) else names


def ecowas_router(web: Web | None = None, **options: Any) -> APIRouter:
    """Return the service as a router: ``app.include_router(ecowas_router())``.

    Every request passes the same access checks as in :func:`create_app`. To include the router under a path, pass
    that path too: ``app.include_router(ecowas_router(path="/desk"), prefix="/desk")``.

    Args:
        web: The state to share with another router; by default, a new one is made from the options.
        **options: The arguments of :func:`create_app`, and ``path``.

    Raises:
        ConfigurationError: The settings or an argument are not valid.
    """
    shared = web if web is not None else make_web(**options)
    router = APIRouter(route_class=guarding(shared), lifespan=shared.running, default_response_class=AnyJSON)

    @router.get("/health", tags=["health"], responses=problems(503))
    async def health(request: Request) -> Response:
        """Return 200 if Redis answers. The body also says whether the model's server answers."""
        return await _health(shared)

    @router.get("/health/live", tags=["health"])
    async def live(request: Request) -> AnyJSON:
        """Return 200 while the process responds."""
        return AnyJSON({"live": True})

    @router.get("/health/ready", tags=["health"], responses=problems(503))
    async def ready(request: Request) -> Response:
        """Return 200 if the process accepts new runs: Redis answers, and the process is not shutting down."""
        if shared.is_draining:
            return problem(503, "This process is being shut down.", {"Retry-After": "2"})
        return await _health(shared)

    @router.get("/metrics", tags=["figures"], responses=_TEXT | problems(401, 403))
    async def metrics(request: Request) -> Response:
        """Return the metrics for Prometheus."""
        return await _metrics(shared, request.headers.get("Accept", ""))

    @router.get("/api/openapi.json", tags=["access"])
    async def openapi(request: Request) -> AnyJSON:
        """Return this description."""
        return AnyJSON(described(router, shared.path))

    @router.get("/api", include_in_schema=False)
    async def api_page(request: Request) -> Response:
        """Show the description as a page."""
        return door(
            shared,
            request,
            "api.html",
            by=principal_in(request),
            **_description_page(described(router, shared.path)),
        )

    add_sign_in(router, shared)
    add_api(router, shared)
    add_pages(router, shared)
    return router


def create_app(settings: Settings | None = None, **options: Any) -> FastAPI:
    """Return the service as an application, with the API under ``/api`` and the pages at ``/``.

    Args:
        settings: The settings; by default, they are read from the environment.
        **options:
            ``model``: the chat model; by default, the model of the settings.
            ``server``: the Redis server; by default, the one of the settings.
            ``groups``, ``router``: as for :func:`~ecowas_lc.build_supervisor`.
            ``held``: the groups whose answers a reviewer must release.
            ``on_busy``: what happens to a question while its session is busy: ``"refuse"`` or ``"queue"``.
            ``lease_seconds``: how many seconds after a process dies another one takes over its runs.
            ``drain_seconds``: how many seconds running answers have to end at shutdown.

    Raises:
        ConfigurationError: The settings or an argument are not valid.
    """
    web = make_web(settings, **options)
    router = ecowas_router(web)

    @router.api_route("/{path:path}", methods=_METHODS, include_in_schema=False)
    async def nothing_here(request: Request, path: str) -> Response:
        """Return 404 to signed-in users."""
        return problem(404, "No page or endpoint has this address.")

    # FastAPI's own pages are off because they load scripts from another host.
    app = FastAPI(title="ecowas_lc", version=__version__, openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router)
    app.state.web = web
    return app


def described(router: APIRouter, path: str = "") -> Data:
    """Return the OpenAPI description of the service."""
    found = get_openapi(
        title="ecowas_lc",
        version=__version__,
        summary="Ask the working groups of the ECOWAS summit, and manage their sessions.",
        routes=router.routes,
        servers=[{"url": path or "/"}],
    )
    found.setdefault("components", {})["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    found["security"] = [{"key": []}, {"header": []}]
    for path, operations in found["paths"].items():
        for operation in operations.values():
            if path.startswith("/health") or path == "/api/sign-in":
                operation["security"] = []
            for response in operation["responses"].values():
                if PROBLEM in response.get("content", {}):
                    response["content"] = {PROBLEM: response["content"][PROBLEM]}
    return found


async def _health(web: Web) -> Response:
    try:
        await web.server.arun(ping_op(Keys(web.settings.prefix)))
    except EcowasError:
        return problem(503, "Redis does not answer. To find the cause, run: ecowas-lc doctor", redis=False)
    about = {"redis": True, "model": await web.model_answers(), "draining": web.is_draining}
    return AnyJSON({"status": "ok", "version": __version__, **about})


async def _metrics(web: Web, accept: str) -> Response:
    metrics = web.metrics or web.new_metrics()
    try:
        text, content_type = await asyncio.to_thread(metrics.exposition, accept)
    finally:
        if metrics is not web.metrics:
            metrics.close()
    return Response(text, headers={"Content-Type": content_type})


class _Runs:
    """Collects the number of runs that this process drives."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        gauge = GaugeMetricFamily("ecowas_runs", "Runs that this process drives", labels=["prefix"])
        for service in self._web.services:
            gauge.add_metric([service.organisation.prefix], service.driver.running)
        return (gauge,)


# --- the page that describes the API; it loads nothing from other hosts ---


def _description_page(description: Mapping[str, Any]) -> Data:
    """Return the parts of an OpenAPI description that the page shows."""
    schemas = description.get("components", {}).get("schemas", {})
    tags: dict[str, list[Data]] = {}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            tags.setdefault((operation.get("tags") or ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "about": operation.get("description", "").replace("`", ""),
                    "parameters": [
                        {"name": each["name"], "where": each["in"], "value": _value(each, schemas)}
                        for each in operation.get("parameters", ())
                    ],
                    "body": _fields(operation.get("requestBody"), schemas),
                    "answers": ", ".join(operation["responses"]),
                }
            )
    return {"summary": description["info"]["summary"], "tags": list(tags.items())}


def _value(parameter: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    needed = "required" if parameter.get("required") else _default(parameter["schema"])
    return _joined(_kind(parameter["schema"], schemas), needed, parameter.get("description"))


def _fields(body: Mapping[str, Any] | None, schemas: Mapping[str, Any]) -> list[Data]:
    if body is None:
        return []
    schema = next(iter(body["content"].values()))["schema"]
    schema = next((each for each in schema.get("anyOf", [schema]) if "$ref" in each), schema)
    schema = _resolved(schema, schemas)
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "value": _joined(
                _kind(field, schemas),
                "required" if name in required else _default(field),
                field.get("description"),
            ),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _default(schema: Mapping[str, Any]) -> str:
    return f"default {schema['default']!r}" if schema.get("default") not in (None, "", []) else ""


def _joined(*parts: str | None) -> str:
    return "; ".join(part for part in parts if part)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    found: Mapping[str, Any] = schemas.get(reference.rpartition("/")[2], schema) if reference else schema
    return found


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    schema = _resolved(schema, schemas)
    if "anyOf" in schema:
        kinds = [_kind(each, schemas) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}), schemas)}"
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in schema
    ]
    return " ".join([str(schema.get("type", "any")), *bounds])
