"""An adapter on this machine: a folder, or a single file, with the file that holds its tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from registry.domain.errors import InvalidAdapter, InvalidFile
from registry.domain.spec import AdapterSpec
from registry.formats import detect, peft
from registry.formats.single_file import weights_file


@dataclass(frozen=True, slots=True)
class LocalAdapter:
    """What was found. `others` are the names of the files beside it that it was not read from."""

    spec: AdapterSpec
    weights: Path
    others: tuple[str, ...]


def read_path(path: Path) -> LocalAdapter:
    """Read the adapter at a path; raises what its format's reader does, and InvalidFile where nothing is."""
    if not path.exists():
        raise InvalidFile(str(path), "the path", "there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else [file for file in folder.iterdir() if file.is_file()]
    sizes = {file.name: file.stat().st_size for file in sorted(files) if not file.name.startswith(".")}

    @contextmanager
    def open_file(name: str, /, *, start: int, length: int) -> Iterator[BinaryIO]:
        with (folder / name).open("rb") as stream:
            stream.seek(start)
            yield stream

    spec = detect(sizes).read_files(sizes, open_file)
    weights = peft.WEIGHTS if spec.summary.format == peft.NAME else weights_file(sizes)
    if weights is None:
        raise InvalidAdapter(str(path), "it has no file of weights")
    return LocalAdapter(spec, folder / weights, tuple(name for name in sizes if name not in {weights, peft.CONFIG}))
