"""The page on observing says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from pilotis.adapters import keyring, logs, otel
from pilotis.api import trail
from pilotis.cli.logfile import MOST_BYTES
from pilotis.derive import genai
from pilotis.derive.keys import RIGHTS

PAGE = (Path(__file__).parents[3] / "docs" / "observe.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def test_every_attribute_is_told() -> None:
    names = {value for name, value in vars(genai).items() if name.isupper() and isinstance(value, str)}
    told = set(re.findall(r"`((?:gen_ai|rag|http|error)\.[a-z_.]+)`", PAGE))
    assert names - told == set()
    assert told <= names


def test_every_field_of_a_request_is_told() -> None:
    told = set(re.findall(r"`([a-z_]+)`", PAGE.split("| field | meaning |")[1].split("\n\n")[0]))
    assert {"request_id", "trace_id", "bu", "key", "route", "status", "ms", *trail._SAID} <= told


def test_figures_and_values() -> None:
    assert f"below {MOST_BYTES // 1_000_000} MB" in TEXT
    assert f"for {keyring.KEPT_S:.0f} seconds" in TEXT
    assert f"{otel.MOST_WAITING} wait" in TEXT
    for value in (*logs.FORMS, *logs.LEVELS, *RIGHTS):
        assert f"`{value}`" in PAGE
