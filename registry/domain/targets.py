"""Where webhooks may be sent: an operator's list of hosts and networks. Pure: URLs and addresses in, verdicts out.

ADAPTERS_WEBHOOK_TARGETS = entries, separated by commas

    public              https to every public address; what holds when nothing is set
    hooks.example       that name, by http too, at public and at private addresses
    *.hooks.example     every name below it, likewise
    10.1.0.0/16         those addresses, whatever they are called and are, by http too

What is not listed is refused. Loopback, link-local and clouds' metadata addresses are reached through a network that
holds them, and by nothing else. A name is judged by the address that it leads to at the moment of each connection.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from registry.domain.errors import InvalidSetting, TargetRefused, WrongUsage

SETTING = "ADAPTERS_WEBHOOK_TARGETS"
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PUBLIC = "public"
_LONGEST = 2000  # characters of a URL
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_INSIDE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
_UNICAST = ip_network("2000::/3")  # all of IPv6 that is given out. Source: IANA, IPv6 Global Unicast Address Space
_NAT64 = ip_network("64:ff9b::/96")
# Where clouds tell machines their secrets. Two of them are in no private range.
_METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was taken apart. `host` is lower-case; `path` includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Raises WrongUsage for one that is none of ours, without repeating a password."""
        try:
            parts = urlsplit(url)
            port, host = parts.port, (parts.hostname or "").lower()
        except ValueError:
            raise WrongUsage("the webhook's URL can't be read: write https://HOST[:PORT]/path") from None
        if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url or "%" in host:
            raise WrongUsage(f"a webhook's URL is up to {_LONGEST:,} characters of printable ASCII, without blanks")
        if "@" in parts.netloc:
            raise WrongUsage("a webhook's URL holds no user or password: its receiver knows us by the signature")
        if parts.scheme not in _PORTS or parts.fragment or not (_NAME.fullmatch(host) or _literal(host)):
            raise WrongUsage("a webhook's URL is https://HOST[:PORT]/path, without a fragment")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host.removesuffix("."), port or _PORTS[parts.scheme], path)


@dataclass(frozen=True, slots=True)
class Targets:
    """What may be called."""

    public: bool = True
    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the setting. Raises InvalidSetting for an entry that can't be meant."""
        entries = [entry.strip().lower() for entry in text.split(",") if entry.strip()]
        hosts: list[str] = []
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                if entry != _PUBLIC and (not _NAME.fullmatch(entry.removeprefix("*.")) or entry[0].isdigit()):
                    raise InvalidSetting(SETTING, text, f"{entry!r} is no host, network or {_PUBLIC!r}") from None
                hosts += [entry] if entry != _PUBLIC else []
        return cls(_PUBLIC in entries, tuple(hosts), tuple(networks))

    def check(self, url: str) -> Target:
        """Refuse what could be called at no address at all; the address itself is judged when it is known.

        Raises WrongUsage, TargetRefused.
        """
        target = Target.parse(url)
        if literal := _literal(target.host):
            if not self.admits(target, literal):
                raise TargetRefused(target.host, "it is not among the addresses that may be called")
        elif not (self._lists(target.host) or self.networks or (self.public and target.scheme == "https")):
            reason = "only https may be called there" if self.public else "it is not among the hosts that may be called"
            raise TargetRefused(target.host, reason)
        return target

    def admits(self, target: Target, address: Address) -> bool:
        """Whether a target may be called at the address that its host leads to."""
        every = tuple(_meant(address))
        if any(every[-1] in network for network in self.networks):
            return True
        if any(one in _METADATA for one in every):
            return False
        if self._lists(target.host):
            return all(_is_public(one) or _is_inside(one) for one in every)
        return self.public and target.scheme == "https" and all(map(_is_public, every))

    def _lists(self, host: str) -> bool:
        return any(
            host.endswith(entry[1:]) if entry.startswith("*.") else host == entry.removesuffix(".")
            for entry in self.hosts
        )


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _meant(address: Address) -> Iterator[Address]:
    """An address, and last the one that it stands for: IPv6 can carry an IPv4 address in several ways."""
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped or address in _NAT64:
        yield IPv4Address(int(address) & 0xFFFFFFFF)
        return
    yield address
    if address.sixtofour:
        yield address.sixtofour
    elif address.teredo:
        yield address.teredo[1]


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_inside(address: Address) -> bool:
    return any(address in network for network in _INSIDE)


EVERYWHERE_PUBLIC = Targets()
