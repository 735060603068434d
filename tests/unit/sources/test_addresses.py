from __future__ import annotations

import ipaddress

import pytest

from pilotis.adapters.sources.addresses import forbidden


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822", "2002:5db8:d822::1"],
)
def test_public_addresses_may_be_asked(address: str) -> None:
    assert forbidden(ipaddress.ip_address(address), private=False) is None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1",
     "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "198.18.0.1"],
)  # fmt: skip
def test_private_ones_may_where_the_contract_says_so(address: str) -> None:
    assert forbidden(ipaddress.ip_address(address), private=False)
    assert forbidden(ipaddress.ip_address(address), private=True) is None


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255",
     "64:ff9b::a9fe:a9fe"],
)  # fmt: skip
def test_some_are_never_a_sites(address: str) -> None:
    assert forbidden(ipaddress.ip_address(address), private=True)
