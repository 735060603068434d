from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pilotis.adapters.prometheus import PrometheusMeter
from pilotis.adapters.scrape import scrape
from pilotis.contract.presets import default
from pilotis.derive.plan import derive
from pilotis.errors import Invalid, Transient


class Pages(BaseHTTPRequestHandler):
    pages: dict[str, bytes]

    def do_GET(self) -> None:
        page = self.pages.get(self.path)
        self.send_response(200 if page is not None else 404)
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    plan = derive(default())
    meter = PrometheusMeter(plan, plan.envs["dev"])
    stranger = meter.exposition()
    meter.gauge("rag_process_info", 1, instance="p1")
    meter.count("rag_cost_eur_total", 0.25, plane="online", bu='a "b"', model="m")
    meter.count("rag_cost_eur_total", 0.5, plane="online", bu='a "b"', model="m")
    Pages.pages = {"/metrics": meter.exposition(), "/stranger": stranger, "/html": b"<html>", "/bytes": b"\xff{\xff"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_page_says_which_process_it_is_and_what_it_counted(address: str) -> None:
    page = await scrape(f"{address}/metrics")
    assert page.instance == "p1"
    assert {series: cost for series, cost in page.costs.items() if cost} == {("online", 'a "b"', "m"): Decimal("0.75")}
    assert page.serves == (default().name, "dev")


@pytest.mark.parametrize("path", ["/stranger", "/html", "/bytes"])
async def test_what_is_no_page_of_ours_is_said_to_be_so(address: str, path: str) -> None:
    with pytest.raises(Invalid, match="no metrics of Pilotis"):
        await scrape(address + path)


async def test_nobody_there(address: str) -> None:
    with pytest.raises(Transient, match="nobody shows metrics at"):
        await scrape(f"{address}/gone")
    with pytest.raises(Transient):
        await scrape("http://127.0.0.1:1/metrics")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x", "127.0.0.1:8080"])
async def test_only_addresses_of_the_web_are_read(url: str) -> None:
    with pytest.raises(Invalid, match="no address of metrics"):
        await scrape(url)
