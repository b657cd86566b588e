from pathlib import Path

from tests.soak.collection import soak


def test_a_collector_that_never_rests_loses_nothing_that_was_acknowledged(database_url: str, tmp_path: Path) -> None:
    report = soak(database_url, tmp_path / "blobs", seconds=2, processes=1, collectors=1)
    assert report.wrong == []
    assert report.counts["cycles"]
    assert report.acknowledged
