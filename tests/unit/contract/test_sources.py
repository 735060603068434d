from __future__ import annotations

from pathlib import Path

import pytest

from pilotis.contract.load import ContractFaults, parse
from pilotis.derive.plan import derive

FILE = Path("pilotis.toml")


def faults(text: str) -> str:
    with pytest.raises(ContractFaults) as raised:
        parse(text, FILE)
    return "\n".join(f"{fault.line} {fault.text} → {fault.remedy}" for fault in raised.value.faults)


def test_each_kind_becomes_an_origin() -> None:
    plan = derive(
        parse(
            """
            [sources.handbook]
            kind = "folder"
            path = "docs/handbook"
            bu = "R & D"
            collection = "hb"
            include = ["*.md"]
            exclude = ["drafts/*"]
            metadata = { team = "sales" }
            every = "90m"
            max_mib = 3
            [sources.archive]
            kind = "s3"
            bucket = "docs"
            prefix = "hb/"
            endpoint_url = "http://127.0.0.1:9000"
            envs = ["prod"]
            every = "1w"
            [sources.site]
            kind = "web"
            url = "https://docs.example.org/sitemap.php?all=1"
            hosts = ["help.example.org"]
            private = true
            """,
            FILE,
        )
    )
    handbook, archive, site = plan.sources.values()
    assert (handbook.name, handbook.path, handbook.bu, handbook.collection) == ("handbook", "docs/handbook", "R & D", "hb")
    assert (handbook.include, handbook.exclude, handbook.metadata) == (("*.md",), ("drafts/*",), {"team": "sales"})
    assert (handbook.every_s, handbook.max_bytes, handbook.max_files) == (5400, 3 << 20, 100_000)
    assert (archive.address, archive.endpoint_url, archive.every_s) == ("s3://docs/hb/", "http://127.0.0.1:9000", 604_800)
    assert (site.url, site.hosts, site.private, site.every_s) == (
        "https://docs.example.org/sitemap.php?all=1",
        ("help.example.org",),
        True,
        None,
    )
    assert [origin.name for origin in plan.sources_of("dev")] == ["handbook", "site"]
    assert [origin.name for origin in plan.sources_of("prod")] == ["handbook", "archive", "site"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('kind = "folder"', 'has kind = "folder" and no path → Add path.'),
        ('kind = "s3"', 'has kind = "s3" and no bucket → Add bucket.'),
        ('kind = "web"', "no url"),
        ('kind = "ftp"\nurl = "x"', "is none of folder, s3, web"),
        ('path = "x"', "kind: is missing → Add kind to [sources.a]."),
        ('kind = "folder"\npath = "x"\nbucket = "yyy"', 'which only "s3" has → Remove bucket.'),
        ('kind = "folder"\npath = ""', "must not be empty"),
        ('kind = "folder"\npath = "x"\nevery = "6 hours"', "is not a duration → Write it as 15m, 6h, 1d or 1w."),
        ('kind = "folder"\npath = "x"\nevery = "0h"', "is not a duration"),
        ('kind = "folder"\npath = "x"\nevery = "30s"', "is not a duration"),
        ('kind = "folder"\npath = "x"\ncollection = "a\\nb"', "printable"),
        (
            'kind = "folder"\npath = "x"\nenvs = ["produ"]',
            "names produ, which is no env here → Use one of: dev, staging, prod.",
        ),
        ('kind = "folder"\npath = "x"\nincludes = ["*"]', "Did you mean include?"),
        ('kind = "folder"\npath = "x"\nmax_files = 0', "must be at least 1"),
        ('kind = "s3"\nbucket = "b u"', "does not have the right form"),
        ('kind = "s3"\nbucket = "bbb"\naws_secret_access_key = "x"', "A contract holds no secret"),
        ('kind = "web"\nurl = "ftp://x.org"', "must be an http or https address"),
        ('kind = "web"\nurl = "http://x.org:99999"', "is no address"),
        ('kind = "web"\nurl = "http://x"\nhosts = ["https://y.org/"]', "does not have the right form"),
    ],
)
def test_what_is_wrong_is_said(body: str, said: str) -> None:
    assert said in faults(f"[sources.a]\n{body}\n")


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    told = faults('[sources.a]\nkind = "web"\nurl = "https://ada:hunter2@docs.example.org/"\n')
    assert "must carry no user and no password" in told
    assert "hunter2" not in told


def test_a_name_is_one() -> None:
    assert "must be lower-case letters" in faults('[sources."Hand Book"]\nkind = "folder"\npath = "x"\n')
