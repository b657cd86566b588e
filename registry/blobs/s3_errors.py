"""S3's and botocore's errors in our words.

An error names the operation, the key and S3's code, never a URL, a header or a credential.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from urllib3.exceptions import HTTPError

from registry.domain.errors import StorageFailure

BROKEN_STREAM = (BotoCoreError, HTTPError, OSError)
ABSENT = ("404", "NoSuchKey", "NoSuchUpload", "NotFound")
OUTSIDE = ("416", "InvalidRange")

MEANING: Mapping[str, str] = {
    "AccessDenied": "access is denied; the credentials lack a permission on the bucket",
    "403": "access is denied; the credentials are wrong or lack a permission on the bucket",
    "InvalidAccessKeyId": "access is denied; the server does not know the access key",
    "SignatureDoesNotMatch": "access is denied; the secret key is wrong",
    "ExpiredToken": "access is denied; the session token has expired",
    "RequestTimeTooSkewed": "access is denied; this machine's clock differs from the server's",
    "NoSuchBucket": "there is no such bucket",
    "QuotaExceeded": "the quota is used up",
}
SILENCE: Mapping[type[BotoCoreError], str] = {
    NoCredentialsError: "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another way boto3 knows",
    PartialCredentialsError: "the credentials are incomplete",
    EndpointConnectionError: "the server can't be reached",
    ConnectTimeoutError: "the server did not accept a connection in time",
    ReadTimeoutError: "the server said nothing for too long",
}


@contextmanager
def s3_errors(doing: str, subject: str) -> Iterator[None]:
    """Raise botocore's errors as StorageFailure. Their texts and contexts can hold URLs, so neither is passed on."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        raise StorageFailure(f"{doing} {subject}: {MEANING.get(code, 'the server refused')} ({code})") from None
    except BotoCoreError as error:
        kind = type(error)
        meaning = next((text for known, text in SILENCE.items() if issubclass(kind, known)), "the request failed")
        raise StorageFailure(f"{doing} {subject}: {meaning} ({kind.__name__})") from None
    except (HTTPError, OSError) as error:
        raise StorageFailure(f"{doing} {subject}: the connection broke ({type(error).__name__})") from None


def code_of(error: ClientError) -> str:
    """S3's name for an error, or the HTTP status where the answer has no body."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))[:64]
