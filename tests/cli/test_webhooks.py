"""Webhooks, quotas, descriptions and deletions from the command line, embedded and against a server."""

from tests.receivers import Receiver, receiver

__all__ = ["receiver"]


def test_a_webhook_is_made_tried_and_asked_what_became_of_it(stocked, receiver: Receiver, monkeypatch, mode):
    monkeypatch.setenv("ADAPTERS_WEBHOOK_TARGETS", "127.0.0.1")  # the server of these tests reads no environment
    if mode == "server":
        refused = stocked("webhooks", "create", "demo", receiver.url, code=4)
        assert "ADAPTERS_WEBHOOK_TARGETS" in refused.err
        return
    made = stocked("webhooks", "create", "demo", receiver.url, "--adapter", "sentiment", "--json").json
    number = str(made["id"])
    assert "arrived: 204" in stocked("webhooks", "test", number).out
    receiver.answers = [500]
    assert "it answered 500" in stocked("webhooks", "test", number, code=1).err
    assert [message.document["type"] for message in receiver.received] == ["ping", "ping"]
    assert "nothing was sent" in stocked("webhooks", "deliveries", number).out
    shown = stocked("webhooks", "show", number).out
    assert "everything of demo/sentiment" in shown
    assert made["secret"] not in shown
    assert stocked("webhooks", "rotate", number, "--json").json["secret"] != made["secret"]
    assert stocked("webhooks", "replay", number, "--delivery", "msg_0_1", code=3).err


def test_a_quota_is_set_in_units_and_kept_where_it_is_not_named(stocked):
    stocked("team", "quota", "demo", "--bytes", "10GB", "--versions", "5")
    shown = stocked("team", "quota", "demo", "--bytes", "none", "--uploads", "3", "--json").json
    assert [shown[what]["limit"] for what in ("bytes", "versions", "adapters", "uploads")] == [None, 5, None, 3]
    assert shown["versions"]["used"] == 5
    refused = stocked("push", "./gloss", "demo/gloss", code=4)
    assert "has 5 versions and may have 5; this would add 1" in refused.err
    for wrong in ("10XB", "-3", "1e9"):
        stocked("team", "quota", "demo", "--bytes", wrong, code=2)
    stocked("team", "quota", "demo", "--versions", "5GB", code=2)
    stocked("team", "quota", "nobody", code=3)


def test_what_is_deleted_is_gone_and_its_name_can_be_used_again(stocked):
    assert stocked("edit", "demo/wordnet", "--description", "glosses", "--metadata", "owner=ml").code == 0
    shown = stocked("edit", "demo/wordnet", "--without", "owner", "--json").json
    assert (shown["description"], shown["metadata"]) == ("glosses", {})
    stocked("delete", "demo/sentiment", "--reason", "old", code=5)
    stocked("delete", "demo/wordnet", "--reason", "old")
    assert "is purged" in stocked("pull", "demo/wordnet@v1", code=4).err
    assert "is deleted" in stocked("edit", "demo/wordnet", code=4).err
    assert "demo/wordnet" not in stocked("list").out
    assert stocked("push", "./genre", "demo/wordnet", "--json").json["version"]["version"] == 2
