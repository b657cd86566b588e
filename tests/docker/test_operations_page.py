"""docs/operations.md: what it lists is what there is."""

import re
from pathlib import Path

import registry.http.settings
import registry.settings
from registry.domain.figures import Figures
from registry.http.backlog import Backlog
from registry.http.look_up_schemas import Resolution
from registry.http.metrics import Metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "operations.md").read_text()
NAME = r"\b(?:ADAPTERS|OTEL|PROMETHEUS)_[A-Z_]+\b"


def test_every_setting_is_listed_once_and_no_other() -> None:
    listed = re.findall(rf"^\| `({NAME})` \|", PAGE, re.MULTILINE)
    rooms = (registry.settings, registry.http.settings)
    declared = {name for room in rooms for name in re.findall(NAME, room.__doc__ or "")}
    assert len(listed) == len(set(listed))
    assert set(listed) == declared
    read = {name for room in rooms for name in re.findall(rf'"({NAME})"', Path(room.__file__ or "").read_text())}
    assert read <= declared


def test_every_figure_is_listed_once_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(adapters_\w+)`", PAGE, re.MULTILINE))
    metrics = Metrics()
    metrics.add(Backlog(lambda: Figures({"queued": 1}, {"done": 1.0}, 0.0, {"active": 1}, 0, 0, 0, 0)))
    metrics.count("GET", "/", 200, seconds=0.1)
    told = set(re.findall(r"^# TYPE (\w+)", metrics.text().decode(), re.MULTILINE))
    assert listed == {name for name in told if not name.endswith("_created")}
    alerts = set(re.findall(r"adapters_\w+?(?=_bucket|[\[{)])", PAGE))
    assert alerts <= listed


def test_what_spans_should_carry_is_what_look_ups_answer() -> None:
    page = (DOCS / "server.md").read_text()
    fields = re.findall(r"^\| `(\w+)` \| `[\w.]+` \|", page, re.MULTILINE)
    assert {"version", "digest", "alias", "seq"} <= set(fields) <= set(Resolution.model_fields)
