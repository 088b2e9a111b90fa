"""Serves the service in a separate process, with a scripted model that tests can hold in mid-message."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from ecowas_lc.settings import load_settings
from ecowas_lc.web import create_app
from ecowas_lc.web.serving import address_of, listening, serve
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker, speaker_of

WORDS = 12
HELD_AFTER = 4  # words of a message of whom `holds` names


def said(speaker: str) -> str:
    """The text of a speaker."""
    return " ".join(f"{speaker}-{number}" for number in range(WORDS))


class HeldModel(ScriptedModel):
    """Logs each call, and stops in the middle of a message until the test lets it continue."""

    folder: Path
    holds: str = ""

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        speaker = speaker_of(messages)
        with (self.folder / "calls").open("a") as calls:
            calls.write(f"{speaker}\n")
        number = 0
        async for chunk in super()._astream(messages, *args, **kwargs):
            if speaker == self.holds and number == HELD_AFTER:
                (self.folder / "held").touch()
                while not (self.folder / "go").exists():  # noqa: ASYNC110  # the test is another process
                    await asyncio.sleep(0.01)
            number += 1
            yield chunk


def main() -> None:
    """Serve until the process is ended; the first line says where."""
    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    folder = Path(options["folder"])
    synthesis = {"views": {"energy": "E.", "digital": "D."}, "answer": said("synthesis")}
    script = by_speaker(
        {
            "energy": said("energy"),
            "digital": said("digital"),
            "protocol": said("protocol"),
            "supervisor": said("supervisor"),
            "synthesis": synthesis,
        }
    )
    model = HeldModel(script=script, structured=True, folder=folder, holds=options.get("holds", ""))
    settings = load_settings(redis_url=options["url"], prefix=options["prefix"], **options.get("settings", {}))
    app = create_app(
        settings,
        model=model,
        router=FixedRouter(),
        held=options.get("held", ()),
        lease_seconds=options.get("lease_seconds", 2.0),
        drain_seconds=options.get("drain_seconds", 20.0),
    )
    listener = listening("127.0.0.1", options.get("port", 0))
    serve(app, listener, on_ready=lambda: print(address_of(listener), flush=True))


if __name__ == "__main__":
    main()
