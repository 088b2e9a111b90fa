"""``ecowas-lc serve``, ``audit`` and ``access``: runs the service, shows its audit log, and manages access."""

from __future__ import annotations

import getpass
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ecowas_lc.cli.screen import confirmed, counted, remark, say, show_rows
from ecowas_lc.cli.store import answering_server
from ecowas_lc.cli.terminal import clean, one_line, show_json, write
from ecowas_lc.errors import ConfigurationError, EcowasError, InvalidInputError, ModelError, StorageError
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.keys import Keys


def serve(
    host: str,
    port: int,
    *,
    certificate: str | None,
    key: str | None,
    held: Sequence[str],
    on_busy: str,
    drain_seconds: float,
    link: bool,
) -> None:
    """Serve until Ctrl-C.

    Raises:
        ConfigurationError: The address or the settings are not usable, or no user could sign in.
    """
    from ecowas_lc.web import check_installed

    check_installed()
    from ecowas_lc.storage.server import Server
    from ecowas_lc.web.app import create_app, held_groups
    from ecowas_lc.web.serving import address_of, is_loopback, listening
    from ecowas_lc.web.serving import serve as run

    if (certificate is None) != (key is None):
        raise ConfigurationError("Pass both --certificate and --key, or neither.")
    settings = get_settings()
    if not is_loopback(host):
        _check_reachable(settings, host, tls=certificate is not None)
    with ExitStack() as stack:
        server = Server.from_settings(settings)
        stack.callback(server.close)
        chat, name, note, health = _model(settings, stack)
        app = create_app(
            settings,
            model=chat,
            server=server,
            held=held_groups(",".join(held)) if held else None,
            on_busy="queue" if on_busy == "queue" else "refuse",
            drain_seconds=drain_seconds,
            model_name=name,
            model_note=note,
            model_health=health,
            checks=_checks,
        )
        listener = listening(host, port)
        stack.callback(listener.close)
        address = address_of(listener, tls=certificate is not None)

        def announce() -> None:
            if link:
                write(f"{address}/sign-in?token={app.state.web.access.one_time_token()}\n")
            else:
                write(f"{address}\n")
            _log_to_stderr()
            if note:
                remark(note)

        run(app, listener, certificate=certificate, key=key, on_ready=announce)


def _check_reachable(settings: Settings, host: str, *, tls: bool) -> None:
    """Raise an error if other machines can reach the service but only the printed link allows signing in."""
    from ecowas_lc.web.access import list_keys_op

    if settings.web_proxies.strip():
        return
    server = answering_server(settings)
    try:
        has_keys = bool(server.run(list_keys_op(Keys(settings.prefix))))
    finally:
        server.close()
    if not has_keys:
        raise ConfigurationError(
            f"Others can reach {host}, but no one can sign in yet. Create a key first: `ecowas-lc access add "
            "NAME --role staff`; or set ECOWAS_LC_WEB_PROXIES to your reverse proxy's address."
        )
    if not tls:
        remark(f"Keys and answers travel unencrypted to {host}. Use --certificate and --key, or a reverse proxy.")


def _model(settings: Settings, stack: ExitStack) -> tuple[Any, str, str, Any]:
    """Return the model that answers, its name, what to know about it, and a function that checks it."""
    from ecowas_lc.cli.models import chosen_model
    from ecowas_lc.llm import LLMService, make_chat_model

    try:
        chosen = stack.enter_context(chosen_model(settings))
    except ModelError as error:
        service = LLMService(settings=settings, timeout=3.0)
        note = f"No answers yet: {error} The service tries again with each question."
        return make_chat_model(settings), settings.ollama_model, note, service.ahealth_check
    service = LLMService(settings=settings, base_url=chosen.base_url, model=chosen.name, timeout=3.0)
    return chosen.chat, chosen.name, chosen.note, service.ahealth_check


def _checks() -> list[dict[str, Any]]:
    from ecowas_lc.cli.doctor import findings

    return [asdict(finding) for finding in findings()]


class _PlainFormatter(logging.Formatter):
    """Formats one record per line, without control characters; tracebacks keep their lines."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("ecowas_lc", "uvicorn"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]
        logger.propagate = False


# --- the audit ---


def show_audit(limit: int, *, json: bool) -> None:
    """Show what was changed through the service, newest first."""
    from ecowas_lc.web.audit import lines_op

    settings = get_settings()
    server = answering_server(settings)
    try:
        lines = server.run(lines_op(Keys(settings.prefix), limit))
    finally:
        server.close()
    if json:
        show_json([line.as_json() for line in lines])
        return
    if not lines:
        remark("Nothing has been changed through the service yet.")
        return
    show_rows(
        ("when (UTC)", "who", "what", "session"),
        [
            (
                f"{datetime.fromtimestamp(line.at, UTC):%Y-%m-%d %H:%M:%S}",
                f"{one_line(line.who)} ({one_line(line.how)})",
                one_line(line.what),
                one_line(line.session),
            )
            for line in lines
        ],
        ("on", [one_line(line.draft or line.detail) for line in lines]),
    )


# --- who may use it ---


def add_key(
    name: str, roles: Sequence[str], groups: Sequence[str], organisation: str | None, *, json: bool
) -> None:
    """Create an API key for a person and show it once."""
    from ecowas_lc.web.access import add_key_op

    settings = get_settings()
    owner = _owner(settings, name, roles, groups, organisation)
    key = _run(settings, add_key_op(Keys(settings.prefix), owner))
    _note(settings, owner.prefix, "add key", name)
    if json:
        show_json({"key": key, **owner.as_json()})
    else:
        write(f"{key}\n")
        remark("Copy the key now: only a digest of it is stored.")


def add_person(
    name: str, roles: Sequence[str], groups: Sequence[str], organisation: str | None, *, json: bool
) -> None:
    """Set what a person who signs in through a reverse proxy may do."""
    from ecowas_lc.web.access import set_person_op

    settings = get_settings()
    owner = _owner(settings, name, roles, groups, organisation)
    _run(settings, set_person_op(Keys(settings.prefix), owner))
    _note(settings, owner.prefix, "set person", name)
    if json:
        show_json(owner.as_json())
    else:
        say(f"{one_line(name)} can now sign in through the proxy as {', '.join(sorted(owner.roles))}.")


def list_access(*, json: bool) -> None:
    """Show keys and people."""
    from ecowas_lc.web.access import list_keys_op, list_people_op

    settings = get_settings()
    keys = _run(settings, list_keys_op(Keys(settings.prefix)))
    people = _run(settings, list_people_op(Keys(settings.prefix)))
    if json:
        show_json({"keys": [key.as_json() for key in keys], "people": [each.as_json() for each in people]})
        return
    if not keys and not people:
        remark("No one has access yet. Create a key: ecowas-lc access add NAME --role staff")
        return
    rows = [(key.id, key.owner) for key in keys] + [("proxy", each) for each in people]
    show_rows(
        ("id", "name", "roles", "organisation"),
        [(at, one_line(who.name), ", ".join(sorted(who.roles)), who.prefix) for at, who in rows],
        ("groups", ["all" if who.groups is None else ", ".join(sorted(who.groups)) for _, who in rows]),
    )


def remove_access(name: str, *, yes: bool, json: bool) -> None:
    """Remove keys by id or owner, and a person's access.

    Raises:
        EcowasError: No key or person has this name.
    """
    from ecowas_lc.web.access import remove_keys_op, remove_person_op

    settings = get_settings()
    if not confirmed(f"Remove the access of {one_line(name)}?", yes=yes):
        return
    keys = _run(settings, remove_keys_op(Keys(settings.prefix), name))
    person = _run(settings, remove_person_op(Keys(settings.prefix), name))
    if not keys and not person:
        raise EcowasError(f"No one has access under {name!r}. `ecowas-lc access list` lists keys and people.")
    _note(settings, settings.prefix, "remove access", name)
    if json:
        show_json({"keys": keys, "person": person})
    else:
        say(f"Removed: {counted(keys, 'key')}{' and a person' if person else ''}.")


def _owner(
    settings: Settings, name: str, roles: Sequence[str], groups: Sequence[str], organisation: str | None
) -> Any:
    from ecowas_lc.cli.conversation import checked_groups
    from ecowas_lc.web.principals import checked_principal

    if not roles:
        raise InvalidInputError("Pass at least one --role: staff, reviewer, operator or admin.")
    allowed = checked_groups(groups) if groups else None
    return checked_principal(name, roles, organisation or settings.prefix, allowed)


def _run(settings: Settings, op: Any) -> Any:
    server = answering_server(settings)
    try:
        return server.run(op)
    finally:
        server.close()


def _note(settings: Settings, prefix: str, what: str, detail: str) -> None:
    from ecowas_lc.web.audit import note_op

    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "?"
    try:
        _run(settings, note_op(Keys(prefix), who, "command", what, detail=detail))
    except StorageError as error:
        raise StorageError(f"The change was made, but the audit has no record of it: {error}") from error
