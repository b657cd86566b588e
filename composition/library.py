"""What the jobs need of a registry: an embedded one and one on a server both have it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from registry.domain.bases import BaseIndex
from registry.domain.records import AliasMove, BaseModel, Version
from registry.domain.reference import AdapterName, Reference
from registry.domain.spec import ModuleSpec
from registry.formats.base_files import BaseTree
from registry.service.core import Progress
from registry.service.publishing import Publication, Submission
from registry.service.workfolder import Pull


class Library(Protocol):
    """Versions to read from and to publish to; each method is `registry.service.Registry`'s."""

    def require_operator(self, action: str, subject: str) -> None: ...

    def find_version(self, reference: Reference) -> Version: ...

    def modules(self, version: Version) -> tuple[ModuleSpec, ...]: ...

    def open_file(self, version: Version, path: str) -> AbstractContextManager[BinaryIO]: ...

    def pull(self, version: Version, to: Path, *, progress: Progress = ...) -> Pull: ...

    def push_folder(self, folder: Path, submission: Submission, *, progress: Progress = ...) -> Publication: ...

    def publish_base(self, folder: Path, submission: Submission, *, progress: Progress = ...) -> Publication: ...

    def check_submission(self, submission: Submission) -> None: ...

    def base(self, name: str) -> BaseModel: ...

    def bases(self) -> list[BaseModel]: ...

    def add_base(self, label: str, index: BaseIndex) -> BaseModel: ...


class Publisher(Library, Protocol):
    """A library that keeps what was composed, with its recipe: an embedded one."""

    def base_files(self, fingerprint: str) -> BaseTree | None: ...

    def version_of_recipe(self, name: AdapterName, recipe_digest: str) -> Version | None: ...

    def promote(
        self,
        reference: Reference,
        alias: str,
        *,
        expected: int | None = None,
        reason: str | None = None,
        across_bases: bool = False,
    ) -> AliasMove: ...
