"""Messages and their signatures, and how patiently they are sent again."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.webhook_secrets import WebhookSecrets
from registry.domain.webhooks import Message, Patience, signed_headers


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    # Source: standard-webhooks/standard-webhooks, libraries' tests
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    headers = signed_headers(
        message, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], datetime.fromtimestamp(1614265330, UTC)
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("key", [None, b"k" * 32])
def test_a_secret_is_as_long_as_the_standard_asks_for(key: bytes | None) -> None:
    secrets = WebhookSecrets(key)
    (_, first), (_, second) = secrets.make(), secrets.make()
    assert first != second
    assert 24 <= len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) <= 64


def test_what_is_kept_signs_only_with_the_key_that_it_was_made_with() -> None:
    ours, theirs, keyless = WebhookSecrets(b"a" * 32), WebhookSecrets(b"b" * 32), WebhookSecrets(None)
    (kept, secret), (plain, told) = ours.make(), keyless.make()
    assert ours.open([kept, plain]) == [secret, told]
    assert theirs.open([kept]) == keyless.open([kept]) == []
    assert secret not in kept and secret.removeprefix("whsec_") not in kept


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_up_to_a_bound_and_differ_between_receivers(attempts: int, chance: float) -> None:
    patience = Patience()
    pause = patience.wait(attempts, chance)
    assert timedelta(seconds=patience.first * 0.75) <= pause <= timedelta(seconds=patience.longest * 1.25)
    assert patience.wait(attempts + 1, chance) >= pause
    assert patience.wait(attempts, 0.0) <= pause <= patience.wait(attempts, 1.0)
