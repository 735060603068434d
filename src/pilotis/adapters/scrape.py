"""Reads the metrics page of a process, as Prometheus does."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from pilotis.errors import Invalid, Transient
from pilotis.online.audit import Page

TIMEOUT_S = 5.0
LARGEST = 16 << 20


async def scrape(url: str) -> Page:
    """The page at `url`. Raises Transient where nobody answers, Invalid for what is no page of metrics of ours."""
    if not url.startswith(("http://", "https://")):
        raise Invalid(f"{url!r} is no address of metrics", remedy="write it as http://127.0.0.1:8080/metrics")
    text = await asyncio.to_thread(_get, url)
    instance: str | None = None
    serves: tuple[str, str] | None = None
    costs: dict[tuple[str, str, str], Decimal] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                match sample.name:
                    case "rag_process_info":
                        instance = sample.labels["instance"]
                    case "rag_contract_info":
                        serves = sample.labels["name"], sample.labels["env"]
                    case "rag_cost_eur_total":
                        labels = sample.labels
                        costs[labels["plane"], labels["bu"], labels["model"]] = Decimal(sample.value)
    except (ValueError, KeyError) as error:
        raise Invalid(f"what {url} shows are no metrics of Pilotis: {error}", remedy="give the address of /metrics") from None
    if instance is None:
        raise Invalid(f"what {url} shows are no metrics of Pilotis", remedy="give the address of /metrics")
    return Page(url=url, instance=instance, serves=serves, costs=costs)


def _get(url: str) -> str:
    try:
        with urlopen(Request(url, headers={"accept": "text/plain"}), timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
            return str(answer.read(LARGEST).decode("utf-8", "replace"))
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise Transient(f"nobody shows metrics at {url}: {error}", remedy="is the API running? see: pilotis up") from error
