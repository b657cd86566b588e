"""The gate for free text: messages, reasons, metadata. What passes can be stored, searched and shown anywhere."""

from collections.abc import Mapping

from registry.domain.errors import WrongUsage

MAX_TEXT = 10_000  # characters
MAX_KEY = 200
MAX_ENTRIES = 100
_ALLOWED = frozenset("\n\r\t\u200c\u200d")  # the joiners of Persian, Indic scripts and emoji


def check_text(what: str, text: str, limit: int = MAX_TEXT) -> str:
    """Return a text without control characters (line breaks and tabs may stay). Raises WrongUsage that names `what`."""
    if len(text) > limit:
        raise WrongUsage(f"{what} has {len(text):,} characters; {limit:,} are allowed")
    for character in text:
        # A lone surrogate can't be stored; NUL, escapes and bidirectional overrides fool databases and terminals.
        if not (character.isprintable() or character in _ALLOWED):
            raise WrongUsage(f"{what} holds the character U+{ord(character):04X}, which can't be kept")
    return text


def check_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Return metadata whose keys and values are texts of bounded size. Raises WrongUsage that names the key."""
    if len(metadata) > MAX_ENTRIES:
        raise WrongUsage(f"there are {len(metadata)} metadata entries; {MAX_ENTRIES} are allowed")
    for key, value in metadata.items():
        check_text("a metadata key", key, MAX_KEY)
        if not key.strip():
            raise WrongUsage("a metadata key is empty")
        check_text(f"the metadata {key!r}", value)
    return metadata
