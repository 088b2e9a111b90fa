"""Deployment: the files agree with each other, and with the service that they start."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import yaml
from typer.main import get_command

from ecowas_lc.cli.commands import app
from ecowas_lc.metrics import Metrics
from ecowas_lc.settings import Settings
from ecowas_lc.storage.server import Server
from tests.cli.conftest import OURS
from tests.fixtures.servers import RunningServer, free_port, running_server, wait_until
from tests.web.conftest import make_key

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PASSWORD = "a password: with @ and /"  # which the service receives as a variable, not in an address
ONCE = {"model"}  # ends when it has done its work
_VARIABLE = re.compile(r"\$\{(\w+)(?::?[-?]([^}]*))?\}")


def filled(text: str, **given: str) -> str:
    """A text of compose.yaml with its variables, or their defaults."""
    return _VARIABLE.sub(lambda match: given.get(match[1], match[2] or ""), text)


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "deploy" / "ecowas-lc.service")
    return parser


def docker_list(instruction: str) -> list[str]:
    """The words of the last such instruction, in its form as a list."""
    return list(yaml.safe_load(re.findall(rf"^{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1]))


def test_compose_follows_the_specification() -> None:
    """The file matches the Compose specification's schema."""
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, ROOT / "compose.yaml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_container_is_pinned_watched_and_kept(name: str) -> None:
    """Images have a version, services are health-checked and restarted, and data is in a declared volume."""
    service = SERVICES[name]
    tag = service["image"].partition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-\w+)?", tag), tag
    assert "restart" in service
    assert ("healthcheck" in service) != (name in ONCE)
    for volume in service.get("volumes", ()):
        assert volume.partition(":")[0] in COMPOSE["volumes"]
    for other, how in service.get("depends_on", {}).items():
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "only a reverse proxy may be reached from elsewhere"
    for kind in ("configs", "secrets"):
        for entry in service.get(kind, ()):
            assert (entry["source"] if isinstance(entry, dict) else entry) in COMPOSE[kind]


def test_files_that_are_named_are_there() -> None:
    """Configuration files exist, and everything that the Dockerfile copies is in the build context."""
    for config in COMPOSE["configs"].values():
        assert (ROOT / config["file"]).is_file()
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    assert ".env" not in copied


def test_the_image_installs_extras_that_exist() -> None:
    """The image contains what the service needs, with the pinned versions."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [named] = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    assert {"cli", "web"} <= set(named.split(",")) <= extras.keys()
    assert DOCKERFILE.count("--constraint constraints.txt") == DOCKERFILE.count("pip install")


def test_the_services_environment_is_ours() -> None:
    """Each variable of the service is a setting."""
    known = {field.alias or name.upper() for name, field in Settings.model_fields.items()}
    assert SERVICES["service"]["environment"].keys() <= known


def commands() -> dict[str, list[str]]:
    """How the service is started, without its program's name."""
    return {
        "compose.yaml": SERVICES["service"]["command"],
        "Dockerfile": docker_list("CMD"),
        "systemd": shlex.split(unit()["Service"]["ExecStart"])[1:],
    }


@pytest.mark.parametrize("where", ["Dockerfile", "compose.yaml", "systemd"])
def test_the_command_line_takes_the_options(where: str) -> None:
    """The service is started with an existing command and existing options."""
    name, *options = commands()[where]
    serve = get_command(app).commands[name]  # type: ignore[attr-defined]
    context = serve.make_context(name, list(options))
    assert context.params["no_link"] is True
    assert docker_list("ENTRYPOINT") == ["ecowas-lc"]


def test_there_is_time_to_end() -> None:
    """The supervisor of the process waits longer than answers may take, plus 3 seconds for requests."""
    for where, seconds in (
        ("compose.yaml", float(SERVICES["service"]["stop_grace_period"].removesuffix("s"))),
        ("systemd", float(unit()["Service"]["TimeoutStopSec"])),
    ):
        options = commands()[where]
        assert seconds > 3 + float(options[options.index("--drain") + 1]), where


def test_the_unit_is_one() -> None:
    """systemd accepts the unit where it is installed; an error that a restart can't fix causes no restart."""
    service = unit()["Service"]
    assert service["RestartPreventExitStatus"] == "2"
    assert (service["Restart"], service["KillSignal"]) == ("on-failure", "SIGTERM")
    verify = shutil.which("systemd-analyze")
    if verify is None:
        return
    text = (ROOT / "deploy" / "ecowas-lc.service").read_text()
    program = service["ExecStart"].split()[0]
    runtime = Path(os.environ.get("PYTEST_TMPDIR", "/tmp"), f"unit-{os.getpid()}")
    runtime.mkdir()
    try:
        file = runtime / "ecowas-lc.service"
        file.write_text(text.replace(program, sys.executable))
        done = subprocess.run([verify, "verify", file], capture_output=True, text=True, timeout=60, check=False)
    finally:
        shutil.rmtree(runtime)
    assert (done.returncode, "ecowas-lc.service" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("file", ["Caddyfile", "nginx.conf"])
def test_a_proxy_streams_and_signs_nobody_in(file: str) -> None:
    """Events are forwarded at once, a client's sign-in header is removed, probes can't be reached."""
    text = (ROOT / "deploy" / file).read_text()
    wanted = {
        "Caddyfile": (
            "flush_interval -1",
            "header_up -X-Forwarded-User",
            "@inside path /metrics /health /health/*",
        ),
        "nginx.conf": (
            "proxy_buffering off;",
            'proxy_set_header X-Forwarded-User "";',
            "location = /metrics",
            "proxy_read_timeout",
        ),
    }
    for line in wanted[file]:
        assert line in text


def test_alarms_are_on_metrics_that_exist(redis_server: RunningServer, prefix: str) -> None:
    """Every rule, and every line of the page, names existing metrics; and the page names all metrics."""
    metrics = Metrics(Server.from_url(redis_server.url), [prefix])
    metrics.close()
    text, _ = metrics.exposition()
    served = set(re.findall(r"^# TYPE (\w+) ", text.decode(), re.MULTILINE)) | {"ecowas_runs"}
    served = {re.sub(r"_total$", "", name) for name in served if not name.endswith("_created")}
    rules = yaml.safe_load((ROOT / "deploy" / "rules.yml").read_text())["groups"][0]["rules"]
    page = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    used = {name for rule in rules for name in re.findall(r"ecowas_\w+", rule["expr"])}
    written = set(re.findall(r"`(ecowas_\w+)`", page)) - {"ecowas_lc"}
    for name in used | written:
        assert re.sub(r"_(bucket|count|sum|total)$", "", name) in served, name
    assert served <= {re.sub(r"_total$", "", name) for name in written}
    assert all(f"`{rule['alert']}`" in page for rule in rules)


@contextmanager
def started(server: RunningServer, prefix: str, folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The service as compose.yaml starts it, but on loopback."""
    given = {"VALKEY_PASSWORD": PASSWORD, "ECOWAS_LC_PREFIX": prefix}
    environment = {name: filled(value, **given) for name, value in SERVICES["service"]["environment"].items()}
    environment |= {
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(server.port),
        "OLLAMA_BASE_URL": "http://127.0.0.1:1",
    }
    command = list(SERVICES["service"]["command"])
    command[command.index("--host") + 1] = "127.0.0.1"
    command[command.index("--port") + 1] = str(port)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ecowas_lc.cli", *command],
            cwd=folder,
            env=inherited | {name: value for name, value in environment.items() if value},
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def probe(port: int) -> int:
    """The reply of the service's health check in compose.yaml."""
    _, _, option, code = SERVICES["service"]["healthcheck"]["test"]
    command = [sys.executable, option, code.replace("8000", str(port))]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode


def test_the_service_runs_as_composed(prefix: str, tmp_path: Path) -> None:
    """Valkey and the service start as in compose.yaml; probes are correct; SIGTERM ends the service cleanly.

    Without Redis, the process lives and is not ready, and is ready again when Redis is back. It needs no model
    server to start. Only operators can read the figures.
    """
    program, *options = [filled(word, VALKEY_PASSWORD=PASSWORD) for word in SERVICES["valkey"]["command"]]
    assert program == "valkey-server"
    at = options.index("--requirepass")
    assert options[at + 1] == PASSWORD
    del options[at : at + 2]
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def status(path: str, **headers: str) -> int:
        try:
            return httpx.get(f"{address}{path}", headers=headers, timeout=10).status_code
        except httpx.TransportError:
            return 0

    with running_server("valkey", *options, password=PASSWORD) as server, server.client() as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "yes"
        login = f":{quote(PASSWORD, safe='')}@"
        key = make_key(f"redis://{login}127.0.0.1:{server.port}/0", prefix, "prometheus", "operator")
        with started(server, prefix, tmp_path, port) as process:
            wait_until(lambda: status("/health/live") == 200, f"the service: {(tmp_path / 'log').read_text()}")
            assert probe(port) == 0
            assert status("/health/ready") == 200
            assert status("/metrics") in (401, 403)
            assert status("/metrics", Authorization=f"Bearer {key}") == 200
            server.kill()
            assert status("/health/ready") == 503
            assert (status("/health/live"), probe(port)) == (200, 0)
            server.start()
            wait_until(lambda: status("/health/ready") == 200, "Redis again")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
            assert "Finished server process" in (tmp_path / "log").read_text()
            assert probe(port) != 0
        assert PASSWORD not in (tmp_path / "log").read_text()
