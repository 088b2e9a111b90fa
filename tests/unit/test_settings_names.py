"""Unknown names with our prefix trigger a warning instead of being ignored."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ecowas_lc import Settings, UnknownSettingWarning
from ecowas_lc.settings import load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No name of ours is set, in a folder without ``.env``."""
    for name in [name for name in os.environ if name.upper().startswith("ECOWAS")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def told() -> list[str]:
    """The warnings on loading the settings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        load_settings()
    assert {warning.category for warning in found} <= {UnknownSettingWarning}
    return [str(warning.message) for warning in found]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ECOWAS_LC_PREFXI", "ECOWAS_LC_PREFIX"),
        ("ecowas_lc_routr", "ECOWAS_LC_ROUTER"),
        ("ECOWAS_LC_LINGER", "ECOWAS_LC_LINGER_SECONDS"),
        ("ECOWAS_LC_REDIS_URL", "REDIS_URL"),
        ("ECOWAS_DATA_DIR", "ECOWAS_LC_DATA_DIR"),
        ("ECOWASLC_ROUTER", "ECOWAS_LC_ROUTER"),
    ],
)
def test_a_misspelt_name(name: str, meant: str, bare: pytest.MonkeyPatch) -> None:
    """In the environment or in .env, a misspelt name triggers a warning with the intended name, not its value."""
    bare.setenv(name, "hunter2")
    Path(".env").write_text(f"{name}=hunter2\n", encoding="utf-8")
    expected = f"sets nothing: no setting has this name. Did you mean {meant}?"
    assert told() == [f"{name.upper()} in the environment {expected}", f"{name.upper()} in .env {expected}"]


def test_a_name_that_is_like_none_of_ours(bare: pytest.MonkeyPatch) -> None:
    """An unknown name with our whole prefix triggers a warning that lists the names; others are ignored."""
    bare.setenv("ECOWAS_DB_URL", "postgresql://hunter2@db/portal")
    bare.setenv("ECOWAS_PORTAL_KEY", "hunter2")
    bare.setenv("REDIS_URI", "redis://localhost")
    assert told() == []
    bare.setenv("ECOWAS_LC_XYZ", "hunter2")
    [text] = told()
    assert text.startswith("ECOWAS_LC_XYZ in the environment sets nothing")
    assert "ECOWAS_LC_PREFIX, " in text
    assert "hunter2" not in text


def test_every_name_there_is_warns_of_nothing(bare: pytest.MonkeyPatch) -> None:
    """All variables of .env.example together trigger no warning, whatever their case."""
    example = Path(__file__).parents[2] / ".env.example"
    lines = [line.removeprefix("#") for line in example.read_text(encoding="utf-8").splitlines() if "=" in line]
    Path(".env").write_text("\n".join(lines), encoding="utf-8")
    bare.setenv("ecowas_lc_router", "lexical")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Settings().router == "lexical"


def test_it_is_told_once() -> None:
    """The warning appears once, however often a process reads its settings."""
    code = "from ecowas_lc.settings import load_settings; load_settings(); load_settings()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ECOWAS_LC_ROUTR": "lexical"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.count("UnknownSettingWarning: ECOWAS_LC_ROUTR in the environment") == 1
