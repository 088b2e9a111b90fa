"""The permission that each route requires, in one table. A route that is not listed is refused to everyone."""

from __future__ import annotations

from enum import StrEnum

from ecowas_lc.web.principals import Principal, Role


class Permission(StrEnum):
    """The permission that a route requires."""

    PUBLIC = "public"
    """No sign-in: the sign-in page, static files, and the health checks."""
    SIGNED_IN = "signed-in"
    CHAT = "chat"
    """Ask questions, and read and change your own sessions and threads; as an admin, all of them."""
    REVIEW = "review"
    """Decide on the drafts of your groups."""
    DOCUMENTS = "documents"
    CHANGE_DOCUMENTS = "change-documents"
    SYSTEM = "system"
    """See the state of the service, but no content."""
    ANALYTICS = "analytics"
    AUDIT = "audit"


_ROLES: dict[Permission, frozenset[Role]] = {
    Permission.SIGNED_IN: frozenset(Role),
    Permission.CHAT: frozenset({Role.STAFF, Role.ADMIN}),
    Permission.REVIEW: frozenset({Role.REVIEWER, Role.ADMIN}),
    Permission.DOCUMENTS: frozenset({Role.STAFF, Role.REVIEWER, Role.ADMIN}),
    Permission.CHANGE_DOCUMENTS: frozenset({Role.ADMIN}),
    Permission.SYSTEM: frozenset({Role.OPERATOR, Role.ADMIN}),
    Permission.ANALYTICS: frozenset({Role.OPERATOR, Role.ADMIN}),
    Permission.AUDIT: frozenset({Role.OPERATOR, Role.ADMIN}),
}

ROUTES: dict[str, Permission] = {
    # by the name of the route's function
    "health": Permission.PUBLIC,
    "live": Permission.PUBLIC,
    "ready": Permission.PUBLIC,
    "static": Permission.PUBLIC,
    "sign_in": Permission.PUBLIC,
    "use_key": Permission.PUBLIC,
    "sign_out": Permission.SIGNED_IN,
    "me": Permission.SIGNED_IN,
    "openapi": Permission.SIGNED_IN,
    "api_page": Permission.SIGNED_IN,
    "groups": Permission.SIGNED_IN,
    "nothing_here": Permission.SIGNED_IN,
    "metrics": Permission.SYSTEM,
    "system": Permission.SYSTEM,
    "analytics": Permission.ANALYTICS,
    "audit": Permission.AUDIT,
    "chat": Permission.CHAT,
    "chat_stream": Permission.CHAT,
    "start_run": Permission.CHAT,
    "list_runs": Permission.CHAT,
    "show_run": Permission.CHAT,
    "run_events": Permission.CHAT,
    "cancel_run": Permission.CHAT,
    "list_sessions": Permission.CHAT,
    "show_session": Permission.CHAT,
    "extend_session": Permission.CHAT,
    "extend_sessions": Permission.CHAT,
    "clear_session": Permission.CHAT,
    "clear_sessions": Permission.CHAT,
    "list_threads": Permission.CHAT,
    "thread_timeline": Permission.CHAT,
    "thread_state": Permission.CHAT,
    "thread_diff": Permission.CHAT,
    "fork_thread": Permission.CHAT,
    "regenerate": Permission.CHAT,
    "edit_question": Permission.CHAT,
    "list_approvals": Permission.REVIEW,
    "approve": Permission.REVIEW,
    "edit_draft": Permission.REVIEW,
    "reject": Permission.REVIEW,
    "list_documents": Permission.DOCUMENTS,
    "search_documents": Permission.DOCUMENTS,
    "show_document": Permission.DOCUMENTS,
    "add_document": Permission.CHANGE_DOCUMENTS,
    "remove_document": Permission.CHANGE_DOCUMENTS,
    # pages
    "set_language": Permission.PUBLIC,
    "page_sign_in": Permission.PUBLIC,
    "page_sign_out": Permission.SIGNED_IN,
    "page_home": Permission.SIGNED_IN,
    "page_chat": Permission.CHAT,
    "page_ask": Permission.CHAT,
    "page_run": Permission.CHAT,
    "page_turns": Permission.CHAT,
    "page_why": Permission.CHAT,
    "page_source": Permission.CHAT,
    "page_version": Permission.CHAT,
    "page_export": Permission.CHAT,
    "page_documents": Permission.DOCUMENTS,
    "page_document": Permission.DOCUMENTS,
    "page_add_document": Permission.CHANGE_DOCUMENTS,
    "page_remove_document": Permission.CHANGE_DOCUMENTS,
    "page_sessions": Permission.CHAT,
    "page_change_sessions": Permission.CHAT,
    "page_thread": Permission.CHAT,
    "page_fork": Permission.CHAT,
    "page_approvals": Permission.REVIEW,
    "page_decide": Permission.REVIEW,
    "page_diff": Permission.REVIEW,
    "page_analytics": Permission.ANALYTICS,
    "page_analytics_csv": Permission.ANALYTICS,
    "page_system": Permission.SYSTEM,
    "page_audit": Permission.AUDIT,
}


def permission_of(route: str) -> Permission | None:
    """Return the permission that a route requires, or ``None`` if no user may call it."""
    return ROUTES.get(route)


def may(principal: Principal | None, permission: Permission | None) -> bool:
    """Return whether a user has a permission."""
    if permission is Permission.PUBLIC:
        return True
    if permission is None or principal is None:
        return False
    return not _ROLES[permission].isdisjoint(principal.roles)
