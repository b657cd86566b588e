"""Every error that the registry and the composition engine raise on purpose.

    AdaptersError
    ├── WrongUsage                 exit 2   the request itself makes no sense
    │   ├── InvalidReference                a reference or a name that doesn't parse
    │   ├── InvalidExpression               an expression that doesn't parse; points at the column
    │   ├── InvalidRecipe                   a recipe document or a method parameter that is out of bounds
    │   ├── InvalidSetting                  an environment variable or option with an impossible value
    │   └── UnknownEngine                   a serving engine that there are no rules for
    ├── Absent                     exit 3   nothing of that name (or none that the caller may see)
    │   ├── AdapterNotFound, VersionNotFound, AliasNotFound, TagNotFound, BaseNotFound, FileNotInVersion, BlobNotFound
    │   ├── UploadNotFound                  an upload that isn't there, has expired, or is another team's
    │   ├── WebhookNotFound, DeliveryNotFound   a webhook that isn't there or is another team's; a message of one
    │   ├── JobNotFound                     a job that isn't there, or is another team's
    │   └── NoRollbackTarget                an alias without an earlier active target
    ├── Refused                    exit 4   understood, and not accepted
    │   ├── InvalidFile                     a safetensors, GGUF or JSON file that breaks its specification or a limit
    │   ├── InvalidAdapter, RankMismatch    tensors and configuration contradict each other
    │   ├── WholeModel, InvalidBase         a whole model where an adapter belongs; files that are no whole model
    │   ├── OtherLine                       adapters and a base model under one name
    │   ├── UnsupportedAdapter              a kind that we can't keep or compose correctly yet, by name
    │   ├── BaseMismatch                    tensors that don't fit the base; names the tensor
    │   ├── NotOnServer                     a command that needs the registry's own files
    │   ├── RankTooHigh                     a rank above what the caller can serve
    │   ├── TargetTaken                     a pull into a folder that isn't ours to change
    │   ├── OutputTaken                     a merge into a folder that holds something else
    │   ├── WrongBase                       weights that are not those an adapter was made for
    │   ├── BaseConflict                    adapters (or an alias's targets) of different bases
    │   ├── NotActive                       the version is yanked, quarantined or pending
    │   ├── Gone                            the version is revoked or purged (HTTP 410)
    │   ├── DigestMismatch                  bytes that are not what their digest says
    │   ├── PartMismatch                    a part of an upload that is longer or shorter than was said
    │   ├── KeyReused                       an Idempotency-Key that named another request before
    │   ├── TargetRefused                   a webhook's address that the operator doesn't allow
    │   ├── QuotaExceeded                   more than a team may keep
    │   └── TooManyJobs                     a team whose queue is full
    ├── Conflict                   exit 5   somebody else was first; read again
    │   ├── StaleSequence                   the alias moved since the caller read it
    │   ├── StaleCommit                     `main` moved since the caller read it
    │   ├── NameTaken                       a name that exists in other case, or a label of another base
    │   ├── AliasInUse                      yanking the target of an alias without force
    │   ├── UploadIncomplete                completing an upload whose parts are not all there
    │   ├── UploadBusy                      completing an upload while a part is being written
    │   ├── UnknownXorb                     a shard that names a xorb which the team hasn't (any more)
    │   ├── JobUnfinished, JobEnded         the result of a job that runs; cancelling one that doesn't
    │   └── ClaimLost                       a worker's job is another worker's by now, or was cancelled
    ├── DamageFound, Damaged       exit 1   stored bytes are missing or changed; a version whose bytes are
    ├── NotEnoughSpace             exit 1   the disk has no room for what would be written
    ├── NotEnoughMemory            exit 1   a module that a device's memory can't hold
    ├── AuditBroken                exit 1   lines of the audit log are not what was written
    ├── JobCancelled, WorkerLost   exit 1   a job that somebody cancelled, or whose workers died
    ├── NotInstalled               exit 1   a command needs an optional part of the program
    ├── NotAllowed                 exit 6   known, but not theirs to do
    └── Failure                    exit 1   our side failed: storage, database, schema
        ├── StorageFailure
        ├── DatabaseFailure
        ├── ServerFailure                   a server can't be reached, or answers nonsense
        └── SchemaMismatch                  a database newer than the program, or not migrated

An error carries fields, never a formatted string; `message` says what is wrong and where, `hint` what to do next.
`code` is the class name in snake case: the stable name in JSON answers. HTTP status codes live elsewhere.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self


@dataclass(eq=False)
class AdaptersError(Exception):
    """Base of the tree. A subclass declares fields and two templates that are filled with them."""

    code: ClassVar[str] = "adapters_error"
    exit_code: ClassVar[int] = 1
    template: ClassVar[str] = "something went wrong"
    hint_template: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def message(self) -> str:
        """What is wrong, and where."""
        return self.template.format(**self.detail)

    @property
    def hint(self) -> str:
        """One line of what to do next, or an empty string."""
        return self.hint_template.format(**self.detail)

    @property
    def detail(self) -> dict[str, Any]:
        """The fields, for machines."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), tuple(self.detail.values())


# -- wrong usage ------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class WrongUsage(AdaptersError):
    exit_code: ClassVar[int] = 2
    template: ClassVar[str] = "{reason}"

    reason: str


@dataclass(eq=False)
class InvalidReference(AdaptersError):
    exit_code: ClassVar[int] = 2
    template: ClassVar[str] = "{text!r} is not a reference: {reason}"
    hint_template: ClassVar[str] = (
        "write team/name, team/name@v3, team/name@production, team/name@<40-hex commit> or team/name@sha256:<hex>"
    )

    text: str
    reason: str


@dataclass(eq=False)
class InvalidExpression(AdaptersError):
    """`column` counts from 1 and points at the first character that can't be read."""

    exit_code: ClassVar[int] = 2
    template: ClassVar[str] = "expression, column {column}: {reason}\n  {text}\n  {pointer}"
    hint_template: ClassVar[str] = (
        "an expression looks like '0.7*team/a@production + 0.3*team/b'; `adapters blend --help` has more"
    )

    text: str
    column: int
    reason: str

    @property
    def message(self) -> str:
        return self.template.format(**self.detail, pointer=" " * (self.column - 1) + "^")


@dataclass(eq=False)
class InvalidRecipe(AdaptersError):
    """`where` is the path of the node in the recipe, as `inputs[0].params.t`."""

    exit_code: ClassVar[int] = 2
    template: ClassVar[str] = "recipe, {where}: {reason}"

    where: str
    reason: str


@dataclass(eq=False)
class InvalidSetting(AdaptersError):
    exit_code: ClassVar[int] = 2
    template: ClassVar[str] = "{name} is {value!r}: {reason}"

    name: str
    value: str
    reason: str


@dataclass(eq=False)
class UnknownEngine(AdaptersError):
    exit_code: ClassVar[int] = 2
    template: ClassVar[str] = "there are no rules for the engine {name!r}"
    hint_template: ClassVar[str] = "known engines are {known}"

    name: str
    known: str


# -- absent -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Absent(AdaptersError):
    exit_code: ClassVar[int] = 3


@dataclass(eq=False)
class AdapterNotFound(Absent):
    template: ClassVar[str] = "there is no adapter {name!r}"
    hint_template: ClassVar[str] = "`adapters list` shows what there is; `adapters push PATH {name}` creates it"

    name: str


@dataclass(eq=False)
class TeamNotFound(Absent):
    template: ClassVar[str] = "there is no team {name}"
    hint_template: ClassVar[str] = "see `adapters team list`; an operator makes one with `adapters team create {name}`"

    name: str


@dataclass(eq=False)
class PrincipalNotFound(Absent):
    template: ClassVar[str] = "there is nobody called {name}"
    hint_template: ClassVar[str] = "an operator makes a principal with its first token: `adapters token create`"

    name: str


@dataclass(eq=False)
class TokenNotFound(Absent):
    template: ClassVar[str] = "there is no token {id}"
    hint_template: ClassVar[str] = "see `adapters token list`"

    id: int


@dataclass(eq=False)
class VersionNotFound(Absent):
    template: ClassVar[str] = "{name} has no {selector}"
    hint_template: ClassVar[str] = "`adapters history {name}` lists its versions and aliases"

    name: str
    selector: str


@dataclass(eq=False)
class AliasNotFound(Absent):
    template: ClassVar[str] = "{name} has no alias {alias!r}"
    hint_template: ClassVar[str] = "create it with `adapters promote {name}@v1 {alias}`"

    name: str
    alias: str


@dataclass(eq=False)
class TagNotFound(Absent):
    template: ClassVar[str] = "{name} has no tag {tag!r}"

    name: str
    tag: str


@dataclass(eq=False)
class BaseNotFound(Absent):
    template: ClassVar[str] = "there is no base model {name!r}"
    hint_template: ClassVar[str] = (
        "register it with `adapters base add NAME DIR`; `adapters base list` shows the known ones"
    )

    name: str


@dataclass(eq=False)
class FileNotInVersion(Absent):
    template: ClassVar[str] = "{reference} has no file {path!r}"

    reference: str
    path: str


@dataclass(eq=False)
class BlobNotFound(Absent):
    template: ClassVar[str] = "blob sha256:{sha256} is not in the store"
    hint_template: ClassVar[str] = (
        "`adapters verify` lists every version that is hit; pushing the same content again repairs it"
    )

    sha256: str


@dataclass(eq=False)
class NoRollbackTarget(Absent):
    template: ClassVar[str] = "{name}@{alias} has no earlier active version to go back to"
    hint_template: ClassVar[str] = "`adapters history {name} {alias}` shows its moves; `--to REF` names a target"

    name: str
    alias: str


@dataclass(eq=False)
class UploadNotFound(Absent):
    template: ClassVar[str] = "there is no upload {id}"
    hint_template: ClassVar[str] = "it was refused, abandoned or has expired; begin it again"

    id: str


@dataclass(eq=False)
class WebhookNotFound(Absent):
    template: ClassVar[str] = "there is no webhook {id}"
    hint_template: ClassVar[str] = "see `adapters webhooks list`"

    id: int


@dataclass(eq=False)
class DeliveryNotFound(Absent):
    template: ClassVar[str] = "the webhook {webhook} has sent no message {id}"
    hint_template: ClassVar[str] = "see `adapters webhooks deliveries {webhook}`; old ones are forgotten"

    webhook: int
    id: str


@dataclass(eq=False)
class JobNotFound(Absent):
    template: ClassVar[str] = "there is no job {id}"
    hint_template: ClassVar[str] = "`adapters jobs list` shows those of your teams; ended ones are kept for 30 days"

    id: str


# -- refused ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Refused(AdaptersError):
    exit_code: ClassVar[int] = 4


@dataclass(eq=False)
class InvalidFile(Refused):
    """`path` is the file's name as the user knows it, `where` the place inside it (a key, a tensor, a byte offset)."""

    template: ClassVar[str] = "{path}: {where}: {reason}"

    path: str
    where: str
    reason: str


@dataclass(eq=False)
class InvalidAdapter(Refused):
    """`where` names the tensor or the configuration key."""

    template: ClassVar[str] = "not a valid adapter: {where}: {reason}"

    where: str
    reason: str


@dataclass(eq=False)
class WholeModel(Refused):
    template: ClassVar[str] = "these are the files of a whole model ({path}), not of an adapter"
    hint_template: ClassVar[str] = (
        "`adapters base publish DIR team/name` publishes a base model; an adapter is a folder with adapter_config.json"
    )

    path: str


@dataclass(eq=False)
class InvalidBase(Refused):
    """`where` names the file, or what is missing."""

    template: ClassVar[str] = "not a whole base model: {where}: {reason}"
    hint_template: ClassVar[str] = (
        "a base is what save_pretrained writes: config.json, safetensors files, the tokenizer's files"
    )

    where: str
    reason: str


@dataclass(eq=False)
class OtherLine(Refused):
    template: ClassVar[str] = "{name} holds {held}, and {found} came"
    hint_template: ClassVar[str] = "a name stands for adapters or for a base model, never for both: take another one"

    name: str
    held: str
    found: str


@dataclass(eq=False)
class RankMismatch(Refused):
    template: ClassVar[str] = "not a valid adapter: {tensor}: rank {found} where the configuration says {expected}"

    tensor: str
    expected: int
    found: int


@dataclass(eq=False)
class UnsupportedAdapter(Refused):
    template: ClassVar[str] = "{subject}: {variant} is not supported here: {reason}"

    subject: str
    variant: str
    reason: str


@dataclass(eq=False)
class BaseMismatch(Refused):
    template: ClassVar[str] = "the adapter does not fit the base {base}: {tensor}: {reason}"
    hint_template: ClassVar[str] = "`adapters base list` shows the registered bases; name the right one with --base"

    base: str
    tensor: str
    reason: str


@dataclass(eq=False)
class BaseConflict(Refused):
    template: ClassVar[str] = "different base models: {left} is for {left_base}, {right} is for {right_base}"
    hint_template: ClassVar[str] = "adapters can only be combined, or an alias moved, within one base model"

    left: str
    left_base: str
    right: str
    right_base: str


@dataclass(eq=False)
class NotOnServer(Refused):
    template: ClassVar[str] = "`adapters {command}` does not work against a server: {reason}"
    hint_template: ClassVar[str] = "{instead}"

    command: str
    reason: str
    instead: str


@dataclass(eq=False)
class RankTooHigh(Refused):
    template: ClassVar[str] = "{reference} has rank {rank}, above the caller's maximum of {maximum}"
    hint_template: ClassVar[str] = "raise the limit, or blend 'truncate({reference}, rank={maximum})'"

    reference: str
    rank: int
    maximum: int


@dataclass(eq=False)
class TargetTaken(Refused):
    template: ClassVar[str] = "{path} exists and was not left by an earlier pull"
    hint_template: ClassVar[str] = "choose another folder with --to, or empty this one"

    path: str


@dataclass(eq=False)
class OutputTaken(Refused):
    template: ClassVar[str] = "{path} exists, and holds or is being given something else"
    hint_template: ClassVar[str] = "choose another --out, or remove it"

    path: str


@dataclass(eq=False)
class WrongBase(Refused):
    template: ClassVar[str] = "{folder} is not the base of {reference}: it is sha256:{found}, {expected} is needed"
    hint_template: ClassVar[str] = (
        "use the weights that the adapter was made for; `adapters base add NAME DIR` and a new push record which"
    )

    folder: str
    reference: str
    found: str
    expected: str


@dataclass(eq=False)
class NotActive(Refused):
    template: ClassVar[str] = "{reference} is {status}"
    hint_template: ClassVar[str] = (
        "`adapters history` lists the active versions; `adapters release REF --reason TEXT` lifts it"
    )

    reference: str
    status: str


@dataclass(eq=False)
class Gone(Refused):
    template: ClassVar[str] = "{reference} is {status} and can no longer be read"

    reference: str
    status: str


@dataclass(eq=False)
class GateClosed(Refused):
    template: ClassVar[str] = "{reference} may not become {alias}: {reasons}"
    hint_template: ClassVar[str] = (
        "record what was measured (`adapters eval add`) and let others approve (`adapters approve {reference} {alias}`)"
    )

    reference: str
    alias: str
    reasons: str


@dataclass(eq=False)
class DigestMismatch(Refused):
    template: ClassVar[str] = (
        "{subject}: expected sha256:{expected} ({expected_size} bytes), found sha256:{found} ({found_size} bytes)"
    )
    hint_template: ClassVar[str] = (
        "the bytes changed on the way or at rest; nothing was kept; `adapters verify` checks the store"
    )

    subject: str
    expected: str
    expected_size: int
    found: str
    found_size: int


@dataclass(eq=False)
class PartMismatch(Refused):
    template: ClassVar[str] = "part {number} of upload {upload} has {expected} bytes; {found} came"
    hint_template: ClassVar[str] = "send the part again; nothing of it was kept"

    upload: str
    number: int
    expected: int
    found: int


@dataclass(eq=False)
class KeyReused(Refused):
    template: ClassVar[str] = "the Idempotency-Key {key!r} named another request before"
    hint_template: ClassVar[str] = "a key names one request; make a new one for each, a UUID for instance"

    key: str


@dataclass(eq=False)
class TargetRefused(Refused):
    template: ClassVar[str] = "webhooks may not call {host}: {reason}"
    hint_template: ClassVar[str] = "whoever runs the server says what they may call, in ADAPTERS_WEBHOOK_TARGETS"

    host: str
    reason: str


@dataclass(eq=False)
class QuotaExceeded(Refused):
    """`what` is bytes, versions, adapters or uploads."""

    template: ClassVar[str] = "the team {team} has {used:,} {what} and may have {limit:,}; this would add {asked:,}"
    hint_template: ClassVar[str] = (
        "delete what is no longer needed (`adapters delete`), or ask whoever runs the registry for more "
        "(`adapters team quota {team}`)"
    )

    team: str
    what: str
    used: int
    asked: int
    limit: int


@dataclass(eq=False)
class TooManyJobs(Refused):
    template: ClassVar[str] = "{team} has {count} jobs waiting, and may have no more"
    hint_template: ClassVar[str] = "wait until some are done, or cancel some: `adapters jobs list`"

    team: str
    count: int


# -- conflict ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Conflict(AdaptersError):
    exit_code: ClassVar[int] = 5


@dataclass(eq=False)
class StaleSequence(Conflict):
    """`expected` 0 means: the caller expected that the alias doesn't exist."""

    template: ClassVar[str] = "{name}@{alias} moved meanwhile: its sequence is {found}, not {expected}"
    hint_template: ClassVar[str] = "look at `adapters history {name} {alias}`, then repeat with --expect {found}"

    name: str
    alias: str
    expected: int
    found: int


@dataclass(eq=False)
class StaleCommit(Conflict):
    template: ClassVar[str] = "{name}: main is at {found}, not at {expected}"
    hint_template: ClassVar[str] = "fetch the newest commit, then push again"

    name: str
    expected: str
    found: str


@dataclass(eq=False)
class NameTaken(Conflict):
    template: ClassVar[str] = "the name {name!r} is taken: {reason}"

    name: str
    reason: str


@dataclass(eq=False)
class AliasInUse(Conflict):
    template: ClassVar[str] = "{reference} is what {aliases} points to"
    hint_template: ClassVar[str] = (
        "move the alias first (`adapters promote` or `adapters rollback`), or repeat with --force"
    )

    reference: str
    aliases: str


@dataclass(eq=False)
class UploadIncomplete(Conflict):
    """`missing` is a number of parts."""

    template: ClassVar[str] = "upload {id}: {missing} of {parts} parts are missing"
    hint_template: ClassVar[str] = "GET the upload to see which, send them, then complete it again"

    id: str
    missing: int
    parts: int


@dataclass(eq=False)
class UploadBusy(Conflict):
    template: ClassVar[str] = "upload {id} is being written to or completed by somebody else"
    hint_template: ClassVar[str] = "wait until that is done, then complete it again"

    id: str


@dataclass(eq=False)
class UnknownXorb(Conflict):
    """A client remembers more than is there; it is told to forget when it asks for its next token."""

    template: ClassVar[str] = "the team {team} has no xorb {xorb} with these chunks (any more)"
    hint_template: ClassVar[str] = "push again: everything is sent anew then"

    team: str
    xorb: str


@dataclass(eq=False)
class JobUnfinished(Conflict):
    template: ClassVar[str] = "job {id} is {state}: there is no result yet"
    hint_template: ClassVar[str] = "`adapters jobs watch {id}` waits for it"

    id: str
    state: str


@dataclass(eq=False)
class JobEnded(Conflict):
    template: ClassVar[str] = "job {id} is {state}, and can't be cancelled any more"

    id: str
    state: str


@dataclass(eq=False)
class ClaimLost(Conflict):
    """Only workers meet it; what they have done so far is thrown away."""

    template: ClassVar[str] = "job {id} was cancelled, or is another worker's by now"

    id: str


# -- not allowed, failures --------------------------------------------------------------------------------------------


@dataclass(eq=False)
class NotAllowed(AdaptersError):
    exit_code: ClassVar[int] = 6
    template: ClassVar[str] = "{actor} may not {action} {subject}"

    actor: str
    action: str
    subject: str


@dataclass(eq=False)
class NotAuthenticated(AdaptersError):
    """The token is missing, unknown, expired or revoked: which of them is nobody's business."""

    exit_code: ClassVar[int] = 6
    template: ClassVar[str] = "{reason}"
    hint_template: ClassVar[str] = "run `adapters login URL`, or set ADAPTERS_TOKEN"

    reason: str


@dataclass(eq=False)
class Failure(AdaptersError):
    exit_code: ClassVar[int] = 1
    template: ClassVar[str] = "{reason}"

    reason: str


@dataclass(eq=False)
class StorageFailure(Failure):
    template: ClassVar[str] = "the blob store failed: {reason}"
    hint_template: ClassVar[str] = (
        "check ADAPTERS_BLOBS_URL, the credentials and the free space, then repeat: nothing was half done"
    )


@dataclass(eq=False)
class DatabaseFailure(Failure):
    template: ClassVar[str] = "the database failed: {reason}"
    hint_template: ClassVar[str] = "check ADAPTERS_DATABASE_URL and that the database is running"


@dataclass(eq=False)
class ServerFailure(Failure):
    template: ClassVar[str] = "{url}: {reason}"
    hint_template: ClassVar[str] = "check ADAPTERS_REGISTRY, and that the server runs: {url}/readyz says so"

    url: str


@dataclass(eq=False)
class NotEnoughSpace(AdaptersError):
    """Sizes in bytes."""

    template: ClassVar[str] = "{path}: {needed} bytes are needed, {free} are free"
    hint_template: ClassVar[str] = "make room there, or write somewhere else"

    path: str
    needed: int
    free: int


@dataclass(eq=False)
class NotEnoughMemory(AdaptersError):
    template: ClassVar[str] = "{subject}: not enough memory on {device} to compute it"
    hint_template: ClassVar[str] = "end what else uses the device, or compute it with --device cpu"

    subject: str
    device: str


@dataclass(eq=False)
class AuditBroken(AdaptersError):
    """`lines` are the first cursors, `broken` is how many there are."""

    template: ClassVar[str] = "{broken} lines of the audit log are not what was written: {lines}"
    hint_template: ClassVar[str] = "compare them with a backup: somebody had the database in hand"

    lines: str
    broken: int


@dataclass(eq=False)
class JobCancelled(AdaptersError):
    template: ClassVar[str] = "job {id} was cancelled; nothing of it was kept"

    id: str


@dataclass(eq=False)
class WorkerLost(AdaptersError):
    template: ClassVar[str] = "job {id} was begun {attempts} times, and each time its worker died"
    hint_template: ClassVar[str] = "the worker's log says why; memory is the usual reason. Then ask for it again"

    id: str
    attempts: int


@dataclass(eq=False)
class NotInstalled(AdaptersError):
    template: ClassVar[str] = "`adapters {command}` needs {package}, which is not installed"
    hint_template: ClassVar[str] = "pip install 'adapter-registry[{extra}]'"

    command: str
    package: str
    extra: str


@dataclass(eq=False)
class DamageFound(AdaptersError):
    template: ClassVar[str] = "{damaged} of {blobs} blobs are missing or changed"
    hint_template: ClassVar[str] = (
        "push the same content again to bring back what is missing, or yank what is hit; the list above names it"
    )

    damaged: int
    blobs: int


@dataclass(eq=False)
class Damaged(AdaptersError):
    template: ClassVar[str] = "{reference} can't be served: a stored file of it is damaged: {problem}"
    hint_template: ClassVar[str] = (
        "push the same content again, or let an operator run `adapters repair`; other versions are served"
    )

    reference: str
    problem: str


@dataclass(eq=False)
class SchemaMismatch(Failure):
    template: ClassVar[str] = "the database has schema {found!r}, this program knows up to {known!r}: {reason}"
    hint_template: ClassVar[str] = "upgrade the program, or run `adapters migrate` with the newest one"

    found: str
    known: str
