"""GGUF files, as bases: architecture and tensor table, with the `gguf` package. The weights stay untouched."""

from pathlib import Path
from typing import Any

from registry.domain.errors import InvalidFile

GgufRow = tuple[str, str, tuple[int, ...], int, int]


def read_gguf(path: Path) -> tuple[str | None, list[GgufRow]]:
    """(general.architecture, rows of name, type, shape, first byte, bytes); shapes outermost dimension first.

    Raises InvalidFile for a malformed file, or where the `gguf` package is missing.
    """
    try:
        import gguf  # lazy: start-up time (numpy), and an extra
    except ImportError:
        raise InvalidFile(str(path), "format", "GGUF needs the extra: pip install 'adapter-registry[gguf]'") from None
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise InvalidFile(str(path), "header", f"not a readable GGUF file: {str(error)[:200]}") from None
    size = path.stat().st_size
    return _architecture(reader), [_row(tensor, path, size) for tensor in reader.tensors]


def _architecture(reader: Any) -> str | None:
    field = reader.get_field("general.architecture")
    value = field.contents() if field else None
    return value if isinstance(value, str) and value.isprintable() else None


def _row(tensor: Any, path: Path, size: int) -> GgufRow:
    start, length = int(tensor.data_offset), int(tensor.n_bytes)
    if start + length > size:
        raise InvalidFile(str(path), f"tensor {tensor.name!r}", f"it ends at byte {start + length} of a file of {size}")
    shape = tuple(int(dimension) for dimension in reversed(tensor.shape))
    return str(tensor.name), str(tensor.tensor_type.name), shape, start, length
