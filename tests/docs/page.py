"""Runs a page of the documentation as a reader would: every block, in order, in one folder and one Python session.

```python            runs; it may use what the page's Python blocks before it defined
```sh                runs line by line; a line that starts a server leaves it running until the page's end
```conf title="x"    is written to the file x; so is ```json title="x"
```text              is exactly what the block before it printed
```mermaid           is only for the reader

Each port stands for a free one, the same throughout a page.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fixtures.servers import free_port, wait_until

_BLOCK = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_PORTS = re.compile(r"\b(63[789]\d|2637\d|700\d|2024)\b")
_SERVERS = ("redis-server", "langgraph dev")
LANGUAGES = ("python", "sh", "conf", "json", "text", "mermaid")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its file name if it has one, its text and its line."""

    language: str
    title: str
    text: str
    line: int


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    for match in _BLOCK.finditer(text):
        indent, language, rest, body = match.groups()
        title = re.search(r'title="([^"]+)"', rest)
        lines = [line.removeprefix(indent) for line in body.splitlines()]
        found.append(
            Block(
                language, title[1] if title else "", "\n".join(lines) + "\n", text[: match.start()].count("\n") + 1
            )
        )
    return found


class Page:
    """A page that is run in the working directory."""

    def __init__(self, path: Path) -> None:
        self._text = path.read_text(encoding="utf-8")
        self._name = path.name
        self._servers: list[subprocess.Popen[bytes]] = []
        ports = dict.fromkeys(_PORTS.findall(self._text))
        self._ports = {port: str(free_port()) for port in ports}

    def run(self) -> None:
        """Run the blocks; raise at the first one that fails or prints something other than the page says."""
        printed, names = "", {"__name__": "__main__"}
        try:
            for block in blocks_of(self._text):
                text = _PORTS.sub(lambda match: self._ports[match[0]], block.text)
                match block.language:
                    case "python":
                        printed = self._python(text, block, names)
                    case "sh":
                        printed = self._shell(text)
                    case "conf" | "json":
                        Path(block.title).write_text(text, encoding="utf-8")
                    case "text":
                        if printed.rstrip() != text.rstrip():
                            raise AssertionError(
                                f"{self._name}:{block.line} says\n{text}\nbut it printed\n{printed}"
                            )
        finally:
            for server in self._servers:
                server.terminate()
            for server in self._servers:
                server.wait(20)

    def _python(self, text: str, block: Block, names: dict[str, Any]) -> str:
        code = compile("\n" * block.line + text, self._name, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        return out.getvalue()

    def _shell(self, text: str) -> str:
        out = ""
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            if line.startswith(_SERVERS):
                self._serve(shlex.split(line.partition("#")[0]))
            elif line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                os.environ[name] = shlex.split(value)[0]
            elif line.strip():
                done = subprocess.run(
                    ["bash", "-euc", line], capture_output=True, text=True, timeout=60, check=False
                )
                if done.returncode:
                    raise AssertionError(f"{self._name}: `{line}` ended with {done.returncode}:\n{done.stderr}")
                out += done.stdout
        return out

    def _serve(self, command: list[str]) -> None:
        output = Path(f".server-{len(self._servers)}.log")
        with output.open("w", encoding="utf-8") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        self._servers.append(process)
        mine = re.findall(r"\b1\d{4}\b", " ".join(command) + "".join(map(_contents, command)))

        def up() -> bool:
            if process.poll() is not None:
                printed = output.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise AssertionError(
                    f"{self._name}: `{shlex.join(command)}` ended with {process.returncode}:\n{printed}"
                )
            return any(map(self._answers, mine))

        wait_until(up, shlex.join(command), seconds=60)

    @staticmethod
    def _answers(port: str) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1):
            return True
        return False


def _contents(name: str) -> str:
    path = Path(name)
    return path.read_text() if name.endswith(".conf") and path.exists() else ""


if __name__ == "__main__":
    started = time.monotonic()
    Page(Path(sys.argv[1])).run()
    print(f"{time.monotonic() - started:.1f} s")
