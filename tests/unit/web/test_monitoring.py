"""The alerts and the dashboard: PromQL that can be parsed, over metrics and labels that /metrics really has."""

import json
import re
from pathlib import Path

import populated
import promql_parser
import pytest
import yaml
from populated import NOW
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from connector.app import create_app
from connector.quality.store import FAULTS, GOOD
from connector.storage import counters
from connector.storage.tables import verification
from connector.web.current import of

ROOT = Path(__file__).parents[3]
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "deploy/grafana/storecue.json").read_text())
EXPRESSIONS = [
    *((rule["alert"], rule["expr"]) for rule in ALERTS),
    *((panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]),
]
OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_EACH_PROCESS = re.compile(r"up|process_.*|storecue_(acknowledgement_seconds|disk_free|database_known).*")
OPERATIONS = (ROOT / "docs/operations.md").read_text()


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """Metric -> its labels, as a populated shop that has just accepted and refused a delivery exposes them."""
    services = populated.services(tmp_path_factory.mktemp("monitored"))
    metrics = of(create_app(services=services, now=lambda: NOW)).metrics
    metrics.accepted("shop", 0.002)
    metrics.rejected("shop", "bad_signature")
    with services.database.tx() as tx:
        _count(tx)
    found = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update({*sample.labels, "job", "instance"})
    metrics.close()
    services.close()
    return found


def _count(tx):
    """What the populated shop lacks: a delivery that was good and one that was not quite, a try, a read-back."""
    counted = [(GOOD, "shop"), (FAULTS, "shop/no_currency"), ("dead_letters", "no_total"), ("pushes", "klaviyo/retry")]
    counters.add(tx, dict.fromkeys(counted, 1), NOW)
    columns = {"destination": "klaviyo", "at": NOW, "state": "done", "drifted": 2}
    for column in verification.columns:
        if column.name not in columns and not column.nullable and column.server_default is None and column.name != "id":
            columns[column.name] = "{}" if column.type.python_type is str else 0
    tx.execute(insert(verification).values(**columns))


def selectors(expression):
    """Every (metric, labels it is selected by), and every label that something is grouped or matched by."""
    metrics, labels = [], set()

    def walk(node):
        if isinstance(node, promql_parser.VectorSelector):
            metrics.append((node.name, {matcher.name for matcher in node.matchers.matchers}))
        for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
            if (part := getattr(node, name, None)) is not None:
                walk(part)
        for part in getattr(node, "args", None) or []:
            walk(part)

    walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")))
    for group in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression):
        labels |= {label.strip() for label in group.split(",")}
    return metrics, labels


def taken(node, group=None):
    """Every (metric, labels it is selected by, the aggregation right around it as (name, labels it keeps))."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}, group
    if isinstance(node, promql_parser.AggregateExpr):
        group = (re.match(r"\w+", node.prettify())[0], set(node.modifier.labels) if node.modifier else set())
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (part := getattr(node, name, None)) is not None:
            yield from taken(part, group)
    for part in getattr(node, "args", None) or []:
        yield from taken(part, group)


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_what_every_process_tells_is_taken_once(exposed, title, expression):
    """With three web processes a sum would be three times too large, and an alert would come three times."""
    for metric, chosen, group in taken(promql_parser.parse(expression.replace("$__rate_interval", "5m"))):
        if not OF_EACH_PROCESS.fullmatch(metric):
            assert group is not None and group[0] == "max", f"{title}: max by (...) ({metric})"
            assert exposed[metric] - {"job", "instance"} - chosen == group[1], f"{title}: {metric}"


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_every_expression_reads_what_metrics_has(exposed, title, expression):
    metrics, grouped = selectors(expression)
    assert metrics, "an expression that reads nothing"
    known = {**exposed, **OF_PROMETHEUS}
    for metric, chosen in metrics:
        assert metric in known, f"{title}: /metrics has no {metric}"
        assert chosen <= known[metric]
    assert grouped <= set().union(*(known[metric] for metric, _ in metrics))


def test_a_wrong_expression_would_be_found(exposed):
    with pytest.raises(ValueError):
        selectors("sum by (source (rate(storecue_lag[5m]))")
    [(metric, _)], _ = selectors("storecue_lags > 1")
    assert metric not in exposed


def test_every_metric_of_ours_is_on_the_dashboard(exposed):
    shown = {metric for _, expression in EXPRESSIONS for metric, _ in selectors(expression)[0]}
    ours = {re.sub(r"_(sum|count)$", "_bucket", name) for name in exposed if name.startswith("storecue_")}
    assert ours - shown == set()


def test_every_alert_has_its_section_and_a_severity():
    anchors = {
        heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)", OPERATIONS, re.MULTILINE)
    }
    for rule in ALERTS:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operations.md"
        assert anchor in anchors, rule["alert"]
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names))


def kept(node, known):
    """The labels that what an expression gives may have: those of the left side, where it joins two."""
    if isinstance(node, promql_parser.VectorSelector):
        return known[node.name]
    if isinstance(node, promql_parser.AggregateExpr):
        return set(node.modifier.labels) if node.modifier else set()
    parts = [part for name in ("lhs", "rhs", "expr", "vector_selector") if (part := getattr(node, name, None))]
    found = [kept(part, known) for part in [*parts, *(getattr(node, "args", None) or [])]]
    return next((labels for labels in found if labels), set())


def test_what_an_alert_says_uses_only_labels_that_it_keeps(exposed):
    for rule in ALERTS:
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert used <= kept(promql_parser.parse(rule["expr"]), {**exposed, **OF_PROMETHEUS}), rule["alert"]


def test_the_panels_do_not_lie_on_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
        assert panel["title"] and panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_example_of_prometheus_reads_the_alerts_and_asks_with_a_token():
    example = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.example.yaml").read_text())
    assert example["rule_files"] == ["alerts.yaml"]
    [job] = example["scrape_configs"]
    assert job["job_name"] == "storecue"  # what StoreCueDown asks for
    assert job["authorization"]["type"] == "Bearer"
