"""Whatever is sent to the API, its answer matches its description, and is never an internal error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.internal.conjecture.utils import many
from hypothesis_jsonschema import _from_schema
from schemathesis import GenerationMode

from tests.fixtures.servers import RunningServer
from tests.web.conftest import Desk, desk_on

EXAMPLES = 5


@pytest.fixture(scope="module")
def desk(redis_server: RunningServer) -> Iterator[Desk]:
    """A service with a session, a draft and a document."""
    redis_server.user = ""
    limits = {"web_requests_per_minute": 10**6, "web_questions_per_minute": 10**6}
    with desk_on(redis_server, "tfuzz", held=("digital",), settings=limits) as found:
        yield found


class ManyAsItWas(many):
    """hypothesis-jsonschema 0.23.1 calls ``more()``, which hypothesis 6.170 has made an iterator."""

    _elements: Iterator[None] | None = None

    def more(self) -> bool:
        if self._elements is None:
            self._elements = iter(self.__enter__())
        for _ in self._elements:
            return True
        self.__exit__(None, None, None)
        return False


@pytest.fixture(autouse=True)
def _objects_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(many, "more"):
        names = SimpleNamespace(**{**vars(_from_schema.cu), "many": ManyAsItWas})
        monkeypatch.setattr(_from_schema, "cu", names)


# hypothesis warns so about patterns for which it finds values by trial
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_no_request_breaks_the_service(desk: Desk) -> None:
    """Requests generated from the description, valid and invalid, get the described answers; refusals are
    problem details.
    """
    admin = desk.key("root", "admin")
    desk.ask(admin, "energy: one?", session="s")
    desk.ask(admin, "digital: one?", session="d")
    description = desk.client.get("/api/openapi.json", headers=admin).json()
    del description["security"]  # the headers are sent with each request
    schema = schemathesis.openapi.from_dict(description)
    broken: list[Any] = []
    asked: set[str] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        assert operation is not None
        modes = [GenerationMode.POSITIVE]
        if "{" not in operation.path:  # finding an invalid path takes seconds; the next test sends some
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:

            @seed(1)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                asked.add(case.operation.label)
                answer = _sent(desk, case, admin)
                if problem := _problem_of(case, answer):
                    broken.append((case.operation.label, case.path_parameters, case.query, case.body, problem))

            try:
                send()
            except schemathesis.errors.SchemathesisError:
                continue  # nothing wrong can be sent to it
            except Exception as error:
                if "Unsatisfiable" in type(error).__name__:
                    continue
                raise
    assert broken == []
    assert len(asked) > 35


@pytest.mark.parametrize(
    "name", ["%ff", "%00", "%0a", "%f0%9f%a6%81", "a%2Fb", "%2e%2e", "x" * 201, "{x}", "%25", "*"]
)
def test_no_id_breaks_the_service(desk: Desk, name: str) -> None:
    """Any text in place of an id or number in an address gets 404 or a refusal, never an internal error."""
    admin = desk.key("root", "admin")
    paths = desk.client.get("/api/openapi.json", headers=admin).json()["paths"]
    broken = []
    for path, operations in paths.items():
        for method, operation in operations.items():
            queries = [
                parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"
            ]
            if "{" not in path and not queries:
                continue
            address = re.sub(r"{[^}]*}", name, path)
            query = "&".join(f"{query}={name}" for query in queries)
            for asked in (address, f"{address}?{query}"):
                answer = desk.client.request(method, asked, headers=admin, json={} if method == "post" else None)
                if answer.status_code >= 500:
                    broken.append((method, asked, answer.text[:200]))
    assert broken == []


def _sent(desk: Desk, case: Any, headers: dict[str, str]) -> Any:
    wanted = case.as_transport_kwargs(base_url="http://127.0.0.1:8000")
    given = {key: value for key, value in wanted.items() if key in ("json", "data", "files", "params", "content")}
    if isinstance(given.get("data"), bytes | str):
        given["content"] = given.pop("data")
    sent = {name: str(value) for name, value in (wanted.get("headers") or {}).items() if _is_header(name, value)}
    return desk.client.request(
        wanted["method"], wanted["url"], headers={**sent, **headers}, follow_redirects=False, **given
    )


def _is_header(name: str, value: Any) -> bool:
    return name.lower() not in ("authorization", "x-api-key", "cookie") and str(value).isascii()


def _problem_of(case: Any, answer: Any) -> str:
    if answer.status_code >= 500:
        return f"{answer.status_code}: {answer.text[:200]}"
    if answer.status_code >= 400 and answer.headers["content-type"] != "application/problem+json":
        return f"{answer.status_code} as {answer.headers['content-type']}"
    announced = {*case.operation.definition.raw["responses"]}
    if str(answer.status_code) not in announced:
        return f"{answer.status_code} is not announced: {sorted(announced)} {answer.text[:200]}"
    return ""
