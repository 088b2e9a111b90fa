"""Observation of the package's work: OpenTelemetry spans, and observers that count.

By default nothing observes, nothing is measured and no library is imported. OpenTelemetry's spans are made if the
application has set up a tracer provider, with ``opentelemetry-sdk`` or a vendor's agent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any, Protocol

TRACER = "ecowas_lc"
_PAUSES = "GraphBubbleUp"  # langgraph raises it to wait for a person: not a failure
_CANCELLED = ("CancelledError", "GeneratorExit", "GivenUp")


class Observer(Protocol):
    """An object that is notified of the package's work, and counts it."""

    def finished(self, kind: str, seconds: float, outcome: str, attributes: Mapping[str, Any]) -> None:
        """Record that work of a ``kind`` ended: with ``ok``, ``paused``, ``cancelled`` or the name of an error."""
        ...

    def counted(self, kind: str, amount: float, attributes: Mapping[str, Any]) -> None:
        """Record an event without a duration; a negative ``amount`` means that something ended."""
        ...


class Span:
    """Work in progress; set its attributes as they become known."""

    def __init__(self, kind: str, name: str, attributes: dict[str, Any], otel: Any) -> None:
        self.kind = kind
        self.name = name
        self.attributes = attributes
        self.otel = otel

    def set(self, **attributes: Any) -> None:
        """Set attributes; two underscores in a name become a dot, and ``None`` sets nothing."""
        found = _named(attributes)
        self.attributes.update(found)
        if self.otel is not None:
            self.otel.set_attributes(found)

    def set_content(self, **attributes: Any) -> None:
        """Set attributes with questions or answers, if the settings allow it."""
        if _content:
            self.set(**{name: json.dumps(value, ensure_ascii=False) for name, value in attributes.items()})


class _Nothing(Span):
    def set(self, **attributes: Any) -> None:
        """Do nothing."""

    def set_content(self, **attributes: Any) -> None:
        """Do nothing."""


_NOTHING = _Nothing("", "", {}, None)
UNWATCHED = nullcontext(_NOTHING)
_observers: tuple[Observer, ...] = ()
_content = False
_PROVIDER_IN_ENVIRONMENT = "OTEL_PYTHON_TRACER_PROVIDER" in os.environ  # set when it is first asked for
_made: list[Any] = [None, None]  # the provider, and its tracer


def observe(observer: Observer) -> None:
    """Notify ``observer`` of all work from now on."""
    global _observers  # noqa: PLW0603  # of the process
    _observers = (*_observers, observer)


def ignore(observer: Observer) -> None:
    """Stop notifying ``observer``."""
    global _observers  # noqa: PLW0603
    _observers = tuple(one for one in _observers if one is not observer)


def keeps_content() -> bool:
    """Return whether spans contain questions and answers."""
    return _content


def keep_content(*, wanted: bool) -> None:
    """Set whether spans contain questions and answers, as the settings require."""
    global _content  # noqa: PLW0603
    _content = wanted


def is_watched() -> bool:
    """Return whether anything would receive a span."""
    return bool(_observers) or _tracer() is not None


def span(
    kind: str, name: str, *, current: bool = True, client: bool = False, **attributes: Any
) -> AbstractContextManager[Span]:
    """Return a span for a block; work inside the block becomes its child if it is ``current``.

    Pass ``current=False`` for a generator, which can't keep a span current between two yields. ``client``: a
    server does the work.
    """
    tracer = _tracer()
    if tracer is None and not _observers:
        return UNWATCHED
    return _open(tracer, kind, name, _named(attributes), current=current, client=client)


def count(kind: str, amount: float = 1, **attributes: Any) -> None:
    """Notify the observers of an event without a duration."""
    for observer in _observers:
        observer.counted(kind, amount, attributes)


def followed(kind: str, name: str, parts: Iterator[Any], **attributes: Any) -> Iterator[Any]:
    """Yield ``parts`` as the children of a span that lasts from the first to the last."""
    return _followed(parts, kind, name, attributes) if is_watched() else parts


def afollowed(kind: str, name: str, parts: AsyncIterator[Any], **attributes: Any) -> AsyncIterator[Any]:
    """Yield ``parts`` as :func:`followed` does."""
    return _afollowed(parts, kind, name, attributes) if is_watched() else parts


def _followed(parts: Iterator[Any], kind: str, name: str, attributes: dict[str, Any]) -> Generator[Any]:
    with span(kind, name, current=False, **attributes) as seen:
        try:
            while True:
                with _within(seen):
                    try:
                        part = next(parts)
                    except StopIteration:
                        return
                yield part
        finally:
            with _within(seen):
                getattr(parts, "close", _nothing)()


async def _afollowed(
    parts: AsyncIterator[Any], kind: str, name: str, attributes: dict[str, Any]
) -> AsyncGenerator[Any]:
    with span(kind, name, current=False, **attributes) as seen:
        try:
            while True:
                with _within(seen):
                    try:
                        part = await anext(parts)
                    except StopAsyncIteration:
                        return
                yield part
        finally:
            with _within(seen):
                close = getattr(parts, "aclose", None)
                if close is not None:
                    await close()


@contextmanager
def _within(seen: Span) -> Iterator[None]:
    """Make a span current for a block that yields to no other code."""
    if seen.otel is None:
        yield
        return
    from opentelemetry import context, trace

    token = context.attach(trace.set_span_in_context(seen.otel))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def _open(
    tracer: Any, kind: str, name: str, attributes: dict[str, Any], *, current: bool, client: bool
) -> Iterator[Span]:
    otel = None
    if tracer is not None:
        from opentelemetry.trace import SpanKind

        kind_of_span = SpanKind.CLIENT if client else SpanKind.INTERNAL
        otel = tracer.start_span(name, kind=kind_of_span, attributes=attributes)
    seen = Span(kind, name, attributes, otel)
    begun, outcome = perf_counter(), "ok"
    try:
        with _within(seen) if current else nullcontext():
            yield seen
    except BaseException as error:
        outcome = _outcome(error)
        if otel is not None and outcome not in ("paused", "cancelled"):
            from opentelemetry.trace import StatusCode

            # the message may quote a question
            otel.set_attribute("error.type", outcome)
            otel.set_status(StatusCode.ERROR)
        raise
    finally:
        if otel is not None:
            otel.end()
        seconds = perf_counter() - begun
        for observer in _observers:
            observer.finished(kind, seconds, outcome, attributes)


def _outcome(error: BaseException) -> str:
    names = [kind.__name__ for kind in type(error).__mro__]
    if _PAUSES in names:
        return "paused"
    return "cancelled" if any(name in names for name in _CANCELLED) else names[0]


def _tracer() -> Any:
    """Return OpenTelemetry's tracer; ``None`` if the application has not set up a provider."""
    trace = sys.modules.get("opentelemetry.trace")
    # As long as no provider is set, asking for it takes longer than a small operation's other bookkeeping.
    if trace is None or (getattr(trace, "_TRACER_PROVIDER", trace) is None and not _PROVIDER_IN_ENVIRONMENT):
        return None
    provider = trace.get_tracer_provider()
    if provider is None or type(provider).__name__ in ("ProxyTracerProvider", "NoOpTracerProvider"):
        return None
    if _made[0] is not provider:
        _made[:] = provider, provider.get_tracer(TRACER)
    return _made[1]


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}


def _nothing() -> None:
    """Do nothing."""
