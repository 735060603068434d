"""A web site on this machine, polite and hostile."""

from __future__ import annotations

import asyncio
import gzip
import resource
import socket
import subprocess
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotis import __version__
from pilotis.adapters.sources import browser, opener, sitemap, web
from pilotis.adapters.sources.web import WebSource
from pilotis.derive.origin import Origin
from pilotis.errors import Invalid, NotFound, Permanent, PilotisError, SetupError, Transient
from pilotis.ports import Fetched, Item, Unlisted

if TYPE_CHECKING:
    from integration.sources.conftest import Site

HTML = "<html><head><title>Tolls</title></head><body><h1>Tolls</h1><p>Sundays are free.</p></body></html>"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "FIRST_PAUSE_S", 0.01)


def source(url: str, **fields: Any) -> WebSource:
    made = opener(None)(Origin(name="site", kind="web", url=url, **({"private": True} | fields)))
    assert isinstance(made, WebSource)
    return made


async def listing(url: str, most: int = 10_000, **fields: Any) -> list[Item | Unlisted]:
    made, found = source(url, **fields), []
    try:
        async with aclosing(made.items()) as items:
            async for item in items:
                found.append(item)
                if len(found) == most:
                    break
    finally:
        await made.close()
    return found


async def listed(url: str, **fields: Any) -> list[str]:
    """The paths of what may be read."""
    found = await listing(url, **fields)
    assert not [item for item in found if isinstance(item, Unlisted)], found
    return [item.key.split("/", 3)[3] for item in found if isinstance(item, Item) and item.unfit is None]


async def fetch(url: str, into: Path, *, known: str | None = None, most_bytes: int = 100_000, **fields: Any) -> Fetched | None:
    made = source(url, **fields)
    try:
        return await made.fetch(Item(key=url), into, known=known, most_bytes=most_bytes)
    finally:
        await made.close()


# --- what is listed


async def test_the_pages_of_a_sitemap(site: Site) -> None:
    site.sitemap("/", "/guide?page=2&amp;x=1", f"  {site.url}/spaced#part\n", "/a b", "/é")
    assert await listed(f"{site.url}/sitemap.xml") == ["", "guide?page=2&x=1", "spaced", "a%20b", "%C3%A9"]
    assert site.told[0]["user-agent"] == f"pilotis/{__version__}"


async def test_the_sitemap_that_robots_txt_names_or_the_usual_one(site: Site) -> None:
    site.sitemap("/usual")
    assert await listed(site.url) == ["usual"]
    assert await listed(f"{site.url}/somewhere/deep") == ["usual"]
    site.sitemap("/named", at="/maps/1.xml")
    site.sitemap("/named-too", at="/maps/2.xml")
    site.robots(f"Sitemap: {site.url}/maps/1.xml\nSitemap: {site.url}/maps/2.xml\nSitemap: http://elsewhere.org/s.xml")
    assert await listed(site.url) == ["named", "named-too"]


async def test_an_index_of_sitemaps_packed_ones_among_them(site: Site) -> None:
    site.sitemap("/one", at="/1.xml")
    site.sitemap("/two", at="/2.xml")
    site.put("/2.xml.gz", gzip.compress(site.pages["/2.xml"].body), headers={"content-type": "application/gzip"})
    site.put(
        "/3.xml.gz", gzip.compress(site.pages["/1.xml"].body.replace(b"one", b"three")), headers={"content-encoding": "gzip"}
    )
    site.sitemap("/1.xml", "/2.xml.gz", "/deeper.xml", "/1.xml", "/index.xml", at="/index.xml", index=True)
    site.sitemap("/3.xml.gz", at="/deeper.xml", index=True)
    assert sorted(await listed(f"{site.url}/index.xml")) == ["one", "three", "two"]
    assert site.asked.count("/1.xml") == 1
    assert site.asked.count("/index.xml") == 1


async def test_a_part_that_cannot_be_read_is_said_and_the_rest_is_listed(site: Site) -> None:
    site.sitemap("/one", at="/1.xml")
    site.put("/bad.xml", "<urlset><url><loc>http://x")
    site.put("/500.xml", status=500)
    site.sitemap("/bad.xml", "/1.xml", "/404.xml", "/500.xml", "http://elsewhere.org/s.xml", at="/index.xml", index=True)
    found = await listing(f"{site.url}/index.xml")
    assert [item.key for item in found if isinstance(item, Item)] == [f"{site.url}/one"]
    reasons = [part.reason for part in found if isinstance(part, Unlisted)]
    assert [part.prefix for part in found if isinstance(part, Unlisted)] == [""] * 4
    for word in ("no valid XML", "404", "answers 500", "another host"):
        assert any(word in reason for reason in reasons), (word, reasons)


async def test_a_site_without_a_sitemap_lists_nothing_and_loses_nothing(site: Site) -> None:
    with pytest.raises(SetupError, match="no sitemap") as raised:
        await listing(site.url)
    assert raised.value.remedy == "name its sitemap in url"
    site.put("/sitemap.xml", HTML)
    with pytest.raises(SetupError, match="no sitemap"):
        await listing(site.url)
    site.put("/sitemap.xml", status=503)
    with pytest.raises(Transient, match="answers 503"):
        await listing(site.url)


async def test_pages_of_other_hosts_are_left_out_unless_they_are_named(site: Site) -> None:
    site.sitemap("/here", "http://elsewhere.org/there", "ftp://x.org/a", "javascript:alert(1)", "file:///etc/passwd", "/here")
    site.sitemap(
        "/here", f"http://localhost:{site.port}/twin", f"http://user:pw@127.0.0.1:{site.port}/secret", "::", at="/2.xml"
    )
    assert await listed(f"{site.url}/sitemap.xml") == ["here", "here"]
    found = await listing(f"{site.url}/2.xml")
    unfit = {item.unfit for item in found if isinstance(item, Item)}
    assert unfit >= {None, "is of another host, localhost", "carries a user or a password"}
    assert await listed(f"{site.url}/2.xml", hosts=("localhost",)) == ["here", "twin"]


async def test_what_robots_txt_forbids_is_not_read(site: Site, tmp_path: Path) -> None:
    site.robots("User-agent: *\nDisallow: /private*\nAllow: /private/ok$\n\nUser-agent: other\nDisallow: /\n")
    site.sitemap("/open", "/private/a", "/private/ok", "/private/okay")
    assert await listed(f"{site.url}/sitemap.xml") == ["open", "private/ok"]
    site.put("/private/a", HTML)
    with pytest.raises(Permanent, match=r"robots\.txt"):
        await fetch(f"{site.url}/private/a", tmp_path / "page")
    assert "/private/a" not in site.asked
    site.robots("User-agent: pilotis\nDisallow: /open\n\nUser-agent: *\nDisallow:\n")
    assert await listed(f"{site.url}/sitemap.xml") == ["private/a", "private/ok", "private/okay"]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_robots_txt_that_is_not_there_forbids_nothing(site: Site, status: int) -> None:
    site.put("/robots.txt", status=status)
    site.sitemap("/open")
    assert await listed(f"{site.url}/sitemap.xml") == ["open"]


async def test_a_robots_txt_that_fails_forbids_everything_for_now(site: Site) -> None:
    site.put("/robots.txt", status=500)
    site.sitemap("/open")
    with pytest.raises(Transient, match=r"robots\.txt"):
        await listing(f"{site.url}/sitemap.xml")


async def test_a_huge_robots_txt_is_read_as_far_as_it_counts(site: Site) -> None:
    site.robots("User-agent: *\nDisallow: /private\n" + "# x\n" * 500_000)
    site.sitemap("/open", "/private")
    assert await listed(f"{site.url}/sitemap.xml") == ["open"]


# --- what is read


async def test_a_page_is_read_once_and_then_asked_whether_it_changed(site: Site, tmp_path: Path) -> None:
    for headers in (
        {"etag": '"v1"'},
        {"last-modified": "Mon, 23 Nov 2026 10:00:00 GMT"},
        {"etag": 'W/"1"', "last-modified": "x"},
    ):
        url = site.put("/a", HTML, headers=headers | {"content-type": "text/html; charset=utf-8"})
        first = await fetch(url, tmp_path / "page")
        assert first
        assert first.media_type == "text/html"
        assert (tmp_path / "page").read_text() == HTML
        assert await fetch(url, tmp_path / "again", known=first.validator) is None
        site.put("/a", "changed", headers={"etag": '"v2"'})
        third = await fetch(url, tmp_path / "page", known=first.validator)
        assert third
        assert third.validator != first.validator
        assert (tmp_path / "page").read_text() == "changed"
    url = site.put("/a", HTML)
    unmarked = await fetch(url, tmp_path / "page")
    assert unmarked
    assert unmarked.validator is None


async def test_packed_pages_are_unpacked(site: Site, tmp_path: Path) -> None:
    url = site.put("/a", gzip.compress(HTML.encode()), headers={"content-encoding": "gzip"})
    await fetch(url, tmp_path / "page")
    assert (tmp_path / "page").read_text() == HTML
    url = site.put("/broken", gzip.compress(HTML.encode())[:-12], headers={"content-encoding": "gzip"})
    with pytest.raises(PilotisError):
        await fetch(url, tmp_path / "page")
    url = site.put("/odd", b"x", headers={"content-encoding": "br"})
    with pytest.raises(Permanent, match="encoding"):
        await fetch(url, tmp_path / "page")


async def test_more_than_is_taken_is_not_read(site: Site, tmp_path: Path) -> None:
    url = site.put("/huge", b"x" * 3_000_000)
    with pytest.raises(Invalid, match="more than 100,000 bytes"):
        await fetch(url, tmp_path / "page")
    bomb = gzip.compress(b"\0" * 300_000_000, 9)
    url = site.put("/bomb", bomb, headers={"content-encoding": "gzip"})
    with pytest.raises(Invalid, match="unpacks to more"):
        await fetch(url, tmp_path / "page", most_bytes=1_000_000)
    assert (tmp_path / "page").stat().st_size <= 1_000_000


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (410, NotFound), (403, Permanent), (401, Permanent), (418, Permanent)]
)
async def test_pages_that_are_not_there(site: Site, tmp_path: Path, status: int, error: type[PilotisError]) -> None:
    url = site.put("/a", HTML, status=status)
    with pytest.raises(error, match=str(status)):
        await fetch(url, tmp_path / "page")
    assert not (tmp_path / "page").exists()


async def test_a_server_that_fails_now_and_then(site: Site, tmp_path: Path) -> None:
    url = site.put("/a", HTML)
    site.refuse("/a", 503, 500)
    assert await fetch(url, tmp_path / "page")
    assert site.asked.count("/a") == 3
    site.refuse("/a", *[500] * 9)
    with pytest.raises(Transient, match="answers 500"):
        await fetch(url, tmp_path / "page")


async def test_retry_after_is_waited_for(site: Site, tmp_path: Path) -> None:
    for told in ("1", format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)):
        url = site.put("/a", HTML)
        site.refuse("/a", 429, retry_after=told)
        assert await fetch(url, tmp_path / "page")
        assert site.at[-1] - site.at[-2] >= 0.9


async def test_who_asks_for_more_patience_than_we_have_is_asked_the_next_time(site: Site, tmp_path: Path) -> None:
    url = site.put("/a", HTML, status=429, headers={"retry-after": "3600"})
    began = time.monotonic()
    with pytest.raises(Transient, match="asks to come back in 3600 s"):
        await fetch(url, tmp_path / "page")
    assert time.monotonic() - began < 2
    assert site.asked.count("/a") == 1


async def test_the_pause_that_robots_txt_asks_for_and_one_connection(site: Site, tmp_path: Path) -> None:
    site.robots("User-agent: *\nCrawl-delay: 0.2\n")
    made = source(site.url)
    for n in range(3):
        site.put(f"/{n}", HTML)
        await made.fetch(Item(key=f"{site.url}/{n}"), tmp_path / "page", known=None, most_bytes=10_000)
    await made.close()
    gaps = [later - earlier for earlier, later in zip(site.at[1:], site.at[2:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= 0.19
    assert len(site.connections) == 1


async def test_a_server_that_never_answers(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "WHOLE_S", 0.2)
    url = site.put("/a", HTML, after_s=1)
    with pytest.raises(Transient, match="within"):
        await fetch(url, tmp_path / "page")


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="cannot be reached"):
        await fetch("http://127.0.0.1:9/a", tmp_path / "page")
    with pytest.raises(Transient, match="not known"):
        await fetch("http://nobody.invalid/a", tmp_path / "page")


# --- redirects and addresses


async def test_redirects_inside_the_site_are_followed(site: Site, tmp_path: Path) -> None:
    site.put("/new", HTML)
    url = site.put("/old", status=301, headers={"location": "/new#there"})
    assert await fetch(url, tmp_path / "page")
    assert (tmp_path / "page").read_text() == HTML
    loop = site.put("/loop", status=302, headers={"location": "/loop"})
    with pytest.raises(Permanent, match="more than 5 times"):
        await fetch(loop, tmp_path / "page")
    assert site.asked.count("/loop") == 6


@pytest.mark.parametrize(
    "location",
    ["http://elsewhere.org/a", "http://169.254.169.254/latest/meta-data/", "http://localhost:{port}/a", "file:///etc/passwd",
     "http://127.0.0.1:22/", "ftp://127.0.0.1/a", "http://u:p@127.0.0.1:{port}/a", "http://[::1]:{port}/a", "http://2130706433:{port}/a"],
)  # fmt: skip
async def test_a_redirect_that_leads_elsewhere_is_not_followed(site: Site, tmp_path: Path, location: str) -> None:
    url = site.put("/a", status=302, headers={"location": location.format(port=site.port)})
    with pytest.raises(Permanent, match="not this site's"):
        await fetch(url, tmp_path / "page")
    assert set(site.asked) == {"/robots.txt", "/a"}


async def test_a_redirect_without_an_address(site: Site, tmp_path: Path) -> None:
    url = site.put("/a", status=302, headers={"location": "http://["})
    with pytest.raises(Permanent):
        await fetch(url, tmp_path / "page")


async def test_a_redirect_into_what_robots_txt_forbids_is_not_followed(site: Site, tmp_path: Path) -> None:
    site.robots("User-agent: *\nDisallow: /private")
    site.put("/private", HTML)
    url = site.put("/a", status=302, headers={"location": "/private"})
    with pytest.raises(Permanent, match=r"robots\.txt"):
        await fetch(url, tmp_path / "page")
    assert "/private" not in site.asked


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "0x7f000001", "[::ffff:127.0.0.1]"])
async def test_this_machine_is_not_asked_unless_the_contract_says_so(site: Site, tmp_path: Path, host: str) -> None:
    site.put("/a", HTML)
    with pytest.raises(SetupError, match="this machine's own") as raised:
        await fetch(f"http://{host}:{site.port}/a", tmp_path / "page", private=False)
    assert raised.value.remedy == "set private = true for this source, if it is meant to be read"
    assert site.asked == []


async def test_a_public_name_with_a_private_address_is_not_asked_and_answers_of_the_name_server_cannot_change_that(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("/a", HTML)
    answers = ["93.184.216.34", "127.0.0.1"]

    async def resolved(_: Any, host: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[0], port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolved)
    answers = ["10.0.0.7"]
    with pytest.raises(SetupError, match="in a private network"):
        await fetch(f"http://docs.example.org:{site.port}/a", tmp_path / "page", private=False)
    answers = ["169.254.169.254"]
    with pytest.raises(SetupError, match="no site's"):
        await fetch(f"http://docs.example.org:{site.port}/a", tmp_path / "page", private=True)
    answers = ["127.0.0.1"]
    made = source(f"http://docs.example.org:{site.port}/", private=True)
    assert await made.fetch(Item(key=f"http://docs.example.org:{site.port}/a"), tmp_path / "page", known=None, most_bytes=1000)
    assert site.told[-1]["host"] == f"docs.example.org:{site.port}"
    answers = ["127.0.0.2"]  # a second answer is not asked for
    assert await made.fetch(Item(key=f"http://docs.example.org:{site.port}/a"), tmp_path / "page", known=None, most_bytes=1000)
    await made.close()


@pytest.fixture
def certificate(tmp_path: Path, site: Site) -> Path:
    """Of docs.example.org, which the site has from now on."""
    path, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=docs.example.org", "-addext", "subjectAltName=DNS:docs.example.org"]
    subprocess.run([*made, *named, "-keyout", key, "-out", path], check=True, capture_output=True)
    site.with_tls(path, key)
    return path


async def test_the_certificate_has_to_be_that_of_the_name_though_the_address_is_asked(
    site: Site, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("/a", HTML)

    async def resolved(_: Any, host: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolved)
    with pytest.raises(Transient, match="certificate"):
        await fetch(f"https://docs.example.org:{site.port}/a", tmp_path / "page")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert await fetch(f"https://docs.example.org:{site.port}/a", tmp_path / "page")
    with pytest.raises(Transient, match="certificate"):
        await fetch(f"https://other.example.org:{site.port}/a", tmp_path / "page")


# --- hostile sitemaps


LAUGHS = '<!ENTITY a "ha">' + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))


@pytest.mark.parametrize(
    "body",
    [
        f"<!DOCTYPE x [{LAUGHS}]><urlset><url><loc>http://127.0.0.1/&j;</loc></url></urlset>",
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><urlset><url><loc>&e;</loc></url></urlset>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><urlset/>',
        "<urlset>" + "<a>" * 1_000_000,
        "<urlset" + ' a="b"' * 10,
        "\0" * 1000,
        "",
        "<html><body>Not here</body></html>",
    ],
    ids=["laughs", "external", "dtd", "deep", "attributes", "nul", "empty", "html"],
)
async def test_hostile_sitemaps_are_refused_at_once(site: Site, body: str) -> None:
    site.put("/sitemap.xml", body)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with pytest.raises(SetupError):
        await listing(f"{site.url}/sitemap.xml")
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "in KB"


async def test_a_packed_bomb_for_a_sitemap(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemap, "MOST_BYTES", 1 << 20)
    rows = b"<url><loc>http://x/</loc></url>" * 2_500_000
    site.put("/s.xml.gz", gzip.compress(b"<urlset>" + rows, 1))
    found = await listing(f"{site.url}/s.xml.gz", most=2_000_000)
    assert isinstance(found[-1], Unlisted)
    assert "more than 1 MiB" in found[-1].reason
    assert 30_000 < len(found) < 40_000, "what came before is listed"


async def test_a_million_addresses_cost_no_more_than_are_taken(site: Site) -> None:
    rows = "".join(f"<url><loc>{site.url}/{n}</loc></url>" for n in range(1_000_000))
    site.put("/s.xml", f"<urlset>{rows}</urlset>")
    del rows
    began = time.monotonic()
    found = await listing(f"{site.url}/s.xml", most=1001)
    assert len(found) == 1001
    assert time.monotonic() - began < 5


async def test_an_index_without_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_SITEMAPS", 20)
    for n in range(100):
        site.sitemap(*(f"/{n}-{m}.xml" for m in range(5)), at=f"/{n}.xml", index=True)
    site.sitemap(*(f"/{n}.xml" for n in range(100)), at="/index.xml", index=True)
    found = await listing(f"{site.url}/index.xml")
    assert "more than 20 sitemaps" in str(found[-1])
    assert len([path for path in site.asked if path.endswith(".xml")]) == 20


def test_a_sitemap_is_read_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "s.xml"
    path.write_text("<urlset>" + "<url><loc>http://x/</loc></url>" * 1_000_000 + "</urlset>")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in sitemap.addresses(path)) == 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "in KB"
