"""What a server takes from its environment, and what it refuses to guess at."""

import pytest

from registry.domain.errors import InvalidSetting
from registry.http.settings import ServerSettings
from registry.settings import Settings


def settings(**environment: str) -> ServerSettings:
    return ServerSettings.from_environment(environment, host="127.0.0.1", port=8321)


@pytest.mark.parametrize(
    ("environment", "traces"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_traces_are_for_those_who_name_a_collector(environment: dict[str, str], traces: bool) -> None:
    assert settings(**environment).traces is traces


def test_proxies_are_addresses_and_networks() -> None:
    found = settings(ADAPTERS_TRUSTED_PROXIES=" 10.0.0.7, 10.1.0.0/16 ,2001:db8::/32,")
    assert found.trusted_proxies == ("10.0.0.7", "10.1.0.0/16", "2001:db8::/32")


@pytest.mark.parametrize("proxies", ["*", "proxy.example", "10.0.0.0/99", "10.0.0.7/8", "10.0.0.7;10.0.0.8"])
def test_what_can_not_be_a_proxy_is_refused(proxies: str) -> None:
    with pytest.raises(InvalidSetting, match="ADAPTERS_TRUSTED_PROXIES"):
        settings(ADAPTERS_TRUSTED_PROXIES=proxies)


@pytest.mark.parametrize(
    "url", ["registry.example", "ftp://registry.example", "https://u:p@registry.example", "https://"]
)
def test_what_can_not_be_a_public_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="ADAPTERS_PUBLIC_URL"):
        settings(ADAPTERS_PUBLIC_URL=url)


def test_a_server_answers_to_its_public_name_and_that_of_its_machine() -> None:
    found = settings(ADAPTERS_PUBLIC_URL="https://registry.example/adapters/")
    assert found.public_url == "https://registry.example/adapters"
    assert found.hosts == ("127.0.0.1", "localhost", "::1", "registry.example")


def test_a_secret_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(InvalidSetting):
        Settings.from_environment({"ADAPTERS_SECRET": "short"})
    assert Settings.from_environment({"ADAPTERS_SECRET": "k" * 32}).secret == b"k" * 32
    assert "kkk" not in repr(Settings.from_environment({"ADAPTERS_SECRET": "k" * 32}))
