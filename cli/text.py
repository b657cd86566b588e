"""Values as short texts for people, safe for a terminal. Knows no layout."""

from datetime import datetime

_UNITS = ("B", "kB", "MB", "GB", "TB")


def clean(text: str, keep: str = "") -> str:
    r"""The text with every character that could steer a terminal written out, as \x1b."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def human_size(size: int) -> str:
    """Bytes in the largest unit of which there is at least one: 1.2 MB."""
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if amount >= 100 or not unit else f"{amount:.1f} {_UNITS[unit]}"


def short_digest(digest: str) -> str:
    """sha256: and the first 12 digits, as they may stand in a reference."""
    return f"sha256:{digest.removeprefix('sha256:')[:12]}"


def when(at: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{at:%Y-%m-%d %H:%M}"


def number(value: float) -> str:
    """A number without needless digits."""
    return f"{value:.6g}"


def count(amount: int, noun: str) -> str:
    """2 files, 1 file, 1,024 tensors."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"
