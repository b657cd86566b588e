"""What webhooks may call: by name, by address, and by whatever an address stands for."""

from ipaddress import ip_address

import pytest

from registry.domain.errors import InvalidSetting, TargetRefused, WrongUsage
from registry.domain.targets import Target, Targets

INNER = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fd00:ec2::254",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
HERE = Target("https", "hooks.example", 443, "/")


@pytest.mark.parametrize("address", INNER)
def test_no_inner_address_is_called_unless_a_network_holds_it(address: str) -> None:
    assert not Targets().admits(HERE, ip_address(address))
    assert Targets.parse("0.0.0.0/0, ::/0").admits(HERE, ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called_by_https_alone(address: str) -> None:
    assert Targets().admits(HERE, ip_address(address))
    assert not Targets().admits(Target("http", "hooks.example", 80, "/"), ip_address(address))
    assert not Targets.parse("other.example").admits(HERE, ip_address(address))


def test_a_host_that_is_listed_may_be_private_and_plain_but_never_this_machine_or_a_metadata_service() -> None:
    plain = Target("http", "hooks.example", 80, "/")
    for listed in (Targets.parse("Hooks.Example"), Targets.parse("*.example")):
        assert all(listed.admits(plain, ip_address(inner)) for inner in ("10.0.0.1", "fc00::1", "93.184.216.34"))
        assert not any(listed.admits(plain, ip_address(a)) for a in ("127.0.0.1", "169.254.169.254", "fd00:ec2::254"))


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@hooks.example/",
        "https://secret@hooks.example/",
        "https:///path",
        "ftp://hooks.example/",
        "https://hooks.example/#part",
        "https://hooks.example:99999/",
        "https://[::1/",
        "https://hooks example/",
        "https://hööks.example/",
        "https://hooks.example/\n",
        "https://hooks.example/" + "x" * 2000,
        "https://[fe80::1%25eth0]/",
    ],
)
def test_what_is_no_webhooks_url_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        Targets().check(url)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("targets", "url"),
    [
        ("public", "http://hooks.example/"),
        ("public", "https://127.0.0.1/"),
        ("public", "https://[::ffff:10.0.0.1]/"),
        ("other.example", "https://hooks.example/"),
        ("*.hooks.example", "https://hooks.example/"),
    ],
)
def test_what_can_be_called_at_no_address_is_refused_at_once(targets: str, url: str) -> None:
    with pytest.raises(TargetRefused):
        Targets.parse(targets).check(url)


@pytest.mark.parametrize("text", ["https://hooks.example", "10.0.0.0/33", "10.0.0.1/8", "hooks example", "1.2.3"])
def test_an_entry_that_cannot_be_meant_is_named(text: str) -> None:
    with pytest.raises(InvalidSetting, match="ADAPTERS_WEBHOOK_TARGETS"):
        Targets.parse(f"public,{text}")
