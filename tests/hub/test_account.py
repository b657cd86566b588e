"""Who a token belongs to, as each client asks."""

from tests.hub.clients import Client


def test_a_client_is_told_who_it_is_and_its_teams(client: Client) -> None:
    def whoami() -> object:
        from huggingface_hub import HfApi

        found = HfApi().whoami()
        return found["name"], [team["name"] for team in found["orgs"]]

    name, teams = client.do("hub.whoami")
    assert name == "ann-owner"
    assert "team" in teams


def test_the_command_says_who_it_is(client: Client) -> None:
    told = client.hf("auth", "whoami")
    assert told.returncode == 0, told.stderr
    assert "ann-owner" in told.stdout
