"""The service's errors, and every error as problem details (RFC 9457)."""

from __future__ import annotations

import json
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from ecowas_lc.errors import (
    ConfigurationError,
    DecisionPendingError,
    EcowasError,
    InvalidInputError,
    ModelError,
    NotWaitingError,
    StorageError,
    ThreadBusyError,
    TooLargeError,
    UnknownCheckpointError,
)

PROBLEM = "application/problem+json"

_TITLES = {
    400: "Bad request",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    411: "Length required",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid input",
    429: "Too many requests",
    500: "Internal error",
    502: "The model failed",
    503: "Not available",
    504: "Too slow",
}


class NotFoundError(EcowasError):
    """The requested object does not exist, or belongs to another user."""


class NotAllowedError(EcowasError):
    """The user may not do this."""


class DrainingError(EcowasError):
    """This process is shutting down and accepts no new runs."""


class BusyError(ThreadBusyError):
    """Another run of the session is under way. ``run_id`` is its id."""

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


def status_of(error: EcowasError) -> int:
    """Return the HTTP status of one of this package's errors."""
    match error:
        case NotFoundError() | UnknownCheckpointError():
            return 404
        case NotAllowedError():
            return 403
        case NotWaitingError() | ThreadBusyError() | DecisionPendingError():
            return 409
        case TooLargeError():
            return 413
        case DrainingError() | StorageError() | ConfigurationError():
            return 503
        case InvalidInputError():
            return 422
        case ModelError():
            return 502
    return 500


def about(error: EcowasError) -> dict[str, Any]:
    """Return the problem details of one of this package's errors."""
    status = status_of(error)
    found = {
        "type": "about:blank",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": str(error),
        "error": type(error).__name__,
    }
    if isinstance(error, BusyError):
        found["run"] = error.run_id
    return found


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """Return a response with problem details."""
    content = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": detail}
    # ASCII, because ids may hold surrogates, which UTF-8 can't encode
    return Response(json.dumps({**content, **more}), status, headers, PROBLEM)


def problem_for(error: Exception) -> Response | None:
    """Return the response for an exception, or ``None`` for an unexpected one."""
    if isinstance(error, EcowasError):
        found = about(error)
        headers = {"Retry-After": "5"} if found["status"] in (503,) else None
        return Response(json.dumps(found), found["status"], headers, PROBLEM)
    if isinstance(error, RequestValidationError):
        # leaves out the input, which may hold a secret or a value that JSON can't encode
        errors = [
            {"where": [str(part) for part in each["loc"]], "what": str(each["msg"])} for each in error.errors()
        ]
        said = "; ".join(f"{'.'.join(each['where'])}: {each['what']}" for each in errors[:5])
        return problem(422, f"Change what you sent: {said}.", errors=errors)
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))
    return None


UNEXPECTED = "An unexpected error occurred. The service's log has the details."
