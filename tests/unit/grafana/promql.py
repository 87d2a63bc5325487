"""What the tests ask of PromQL: expressions parsed, their selectors and what surrounds them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml

from embedpool_shared.measures import MEASURES, Measure

ROOT: Final = Path(__file__).parents[3]
GRAFANA: Final = ROOT / "grafana"
RULES: Final = GRAFANA / "prometheus" / "rules"
SERIES: Final[dict[str, Measure]] = {name: it for it in MEASURES for name in it.series}
PROMETHEUS_OWN: Final = frozenset({"up", "ALERTS"})
TARGET_LABELS: Final = frozenset({"cluster", "namespace", "job", "instance"})
DURATIONS: Final = {"$__rate_interval": "5m", "$__range": "1h"}


@dataclass(frozen=True)
class Selector:
    """One series selector, with the functions and aggregations around it, inmost first."""

    name: str
    matchers: dict[str, tuple[str, str]]
    around: tuple[str, ...]


@dataclass(frozen=True)
class Used:
    """All that an expression names."""

    selectors: list[Selector] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)


def parsed(expr: str) -> promql_parser.Expr:
    """Parse an expression as Grafana would send it."""
    for variable, duration in DURATIONS.items():
        expr = expr.replace(variable, duration)
    return promql_parser.parse(expr)


def used(expr: str) -> Used:
    """Collect the selectors of an expression and the labels it groups and matches by."""
    found = Used()
    _visit(parsed(expr), (), found)
    return found


def _visit(node: Any, around: tuple[str, ...], found: Used) -> None:
    if isinstance(node, promql_parser.VectorSelector):
        matchers = {it.name: (str(it.op), it.value) for it in node.matchers.matchers}
        found.selectors.append(Selector(str(node.name), matchers, around))
    found.grouped.update(_labels(node))
    inner = _name(node)
    for child in _children(node):
        _visit(child, (inner, *around) if inner else around, found)


def _children(node: Any) -> list[Any]:
    """List the parts of a node; one of a kind unknown here has an attribute missing."""
    match node:
        case promql_parser.Call():
            return list(node.args)
        case promql_parser.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql_parser.MatrixSelector():
            return [node.vector_selector]
        case promql_parser.VectorSelector() | promql_parser.NumberLiteral():
            return []
        case promql_parser.StringLiteral():
            return []
        case _:
            return [node.expr]


def _name(node: Any) -> str:
    """Name the function or the aggregation that a node is."""
    if isinstance(node, promql_parser.Call):
        return str(node.func.name)
    return str(node.op) if isinstance(node, promql_parser.AggregateExpr) else ""


def _labels(node: Any) -> list[str]:
    """List the labels a node groups or matches by."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.BinaryExpr):
        modifier = modifier and modifier.matching
    return list(modifier.labels) if modifier else []


@cache
def rules() -> list[dict[str, Any]]:
    """List every recording rule and alert."""
    trees = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(RULES.glob("*.yml"))]
    return [rule for tree in trees for group in tree["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """List every alert."""
    return [rule for rule in rules() if "alert" in rule]


@cache
def recorded() -> dict[str, frozenset[str]]:
    """Map the name of every recording rule to the labels its series have."""
    labels: dict[str, frozenset[str]] = {}
    for rule in rules():
        if "record" in rule:
            level = rule["record"].split(":")[0]
            per_model = {"job", "model"} if level == "job_model" else set()
            labels[rule["record"]] = frozenset({"cluster", "namespace", *per_model})
    return labels


def problem(selector: Selector) -> str:
    """Say what is wrong with a selector by the table of metrics, "" if nothing is."""
    if selector.name in PROMETHEUS_OWN:
        return ""
    if selector.name in recorded():
        known = recorded()[selector.name]
        return _unknown(selector, known)
    measure = SERIES.get(selector.name)
    if measure is None:
        return f"no metric is called {selector.name}"
    edges = {"le"} if selector.name.endswith("_bucket") else set()
    return _unknown(selector, {*measure.label_names, *TARGET_LABELS, *edges}) or _impossible(
        selector, measure
    )


def _unknown(selector: Selector, known: set[str] | frozenset[str]) -> str:
    unknown = selector.matchers.keys() - known
    return f"{selector.name} has no label {sorted(unknown)}" if unknown else ""


def _impossible(selector: Selector, measure: Measure) -> str:
    """A matcher that none of a label's possible values meets, or an edge that is not there."""
    for label in measure.labels:
        operator, value = selector.matchers.get(label.name, ("", ""))
        if not label.values or "$" in value or not operator:
            continue
        wanted = value.split("|") if "Re" in operator else [value]
        if absent := [part for part in wanted if part not in label.values]:
            return f"{selector.name}: {label.name} is never {absent}"
    edge = selector.matchers.get("le", ("", ""))[1]
    if edge and float(edge) not in measure.buckets:
        return f"{selector.name} has no edge at {edge}"
    return ""


def words(text: str) -> set[str]:
    """List the names of metrics that a text mentions."""
    return set(re.findall(r"embedpool_[a-z_]+", text))
