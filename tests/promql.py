"""As much of Prometheus as our alert rules need: evaluates them over the courses of values in rules.test.yaml, where promtool is not installed.

`make alerts` gives the same file to promtool itself; what this does not know, it refuses.
"""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, MatrixSelector, NumberLiteral, ParenExpr, VectorSelector, parse

STEP, LOOKBACK = 60, 300
Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_COMPARISON: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_MATCH: dict[str, Callable[[str, str], bool]] = {
    "Equal": operator.eq, "NotEqual": operator.ne, "Re": lambda had, given: bool(re.fullmatch(given, had)),
    "NotRe": lambda had, given: not re.fullmatch(given, had),
}  # fmt: skip


def seconds(text: str) -> int:
    """5m, 1h, 90s as seconds."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def values_of(notation: str) -> Iterator[float | None]:
    """The values that promtool's notation stands for: `1x3`, `0+10x5`, `_x20 80`."""
    for piece in notation.split():
        found = re.fullmatch(r"(_|-?\d+(?:\.\d+)?)(?:([+-]\d+(?:\.\d+)?))?(?:x(\d+))?", piece)
        assert found is not None, piece
        start, step, times = found.groups()
        if start == "_":
            yield from [None] * int(times or 1)
        else:
            yield from (float(start) + n * float(step or 0) for n in range(int(times or 0) + 1))


@dataclass
class Series:
    """All samples: name, then labels, then the value at each minute."""

    samples: dict[str, dict[Labels, dict[int, float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))

    def add(self, series: str, notation: str) -> None:
        """A course of values as rules.test.yaml gives it."""
        selector = parse(series)
        assert isinstance(selector, VectorSelector)
        labels = frozenset((m.name, m.value) for m in selector.matchers.matchers)
        for number, value in enumerate(values_of(notation)):
            if value is not None:
                self.samples[selector.name or ""][labels][number * STEP] = value

    def selected(self, selector: VectorSelector) -> Iterator[tuple[Labels, dict[int, float]]]:
        """The series a selector names."""
        for labels, samples in self.samples[selector.name or ""].items():
            held = dict(labels)
            if all(_MATCH[str(m.op).rpartition(".")[2]](held.get(m.name, ""), m.value) for m in selector.matchers.matchers):
                yield labels, samples

    def at(self, selector: VectorSelector, now: int) -> Vector:
        """The newest sample of each within the last five minutes."""
        now -= int(selector.offset.total_seconds()) if selector.offset else 0
        found: Vector = {}
        for labels, samples in self.selected(selector):
            newest = max((at for at in samples if now - LOOKBACK < at <= now), default=None)
            if newest is not None:
                found[labels] = samples[newest]
        return found

    def over(self, selector: MatrixSelector, now: int) -> Iterator[tuple[Labels, list[tuple[int, float]]]]:
        """All samples of each within its range."""
        begin = now - int(selector.range.total_seconds())
        for labels, samples in self.selected(selector.vector_selector):
            yield labels, [(at, value) for at, value in sorted(samples.items()) if begin <= at <= now]


def evaluate(expr: Expr, series: Series, now: int) -> Vector | float:
    """The value of an expression at an instant."""
    if isinstance(expr, NumberLiteral):
        return float(expr.val)
    if isinstance(expr, ParenExpr):
        return evaluate(expr.expr, series, now)
    if isinstance(expr, VectorSelector):
        return series.at(expr, now)
    if isinstance(expr, AggregateExpr):
        return _aggregate(expr, vector(evaluate(expr.expr, series, now)))
    if isinstance(expr, BinaryExpr):
        return _binary(expr, evaluate(expr.lhs, series, now), evaluate(expr.rhs, series, now))
    assert isinstance(expr, Call), f"not known here: {expr}"
    return _call(expr, series, now)


def vector(value: Vector | float) -> Vector:
    """A value that must be a vector."""
    assert isinstance(value, dict)
    return value


def _call(expr: Call, series: Series, now: int) -> Vector | float:
    name = expr.func.name
    if name == "time":
        return float(now)
    if name == "predict_linear":
        return {labels: _line(samples, now + int(expr.args[1].val)) for labels, samples in series.over(expr.args[0], now) if len(samples) > 1}
    if name in ("increase", "rate"):  # of courses of values without resets, and without Prometheus' extrapolation to the ends of the range
        range_seconds = expr.args[0].range.total_seconds() if name == "rate" else 1.0
        return {labels: (samples[-1][1] - samples[0][1]) / range_seconds for labels, samples in series.over(expr.args[0], now) if len(samples) > 1}
    if name == "histogram_quantile":
        return _quantile(expr.args[0].val, vector(evaluate(expr.args[1], series, now)))
    if name == "delta":
        return {labels: samples[-1][1] - samples[0][1] for labels, samples in series.over(expr.args[0], now) if len(samples) > 1}
    value = evaluate(expr.args[0], series, now)
    if name == "vector":
        assert isinstance(value, float)
        return {frozenset(): value}
    if name == "abs":
        return {labels: abs(one) for labels, one in vector(value).items()}
    assert name == "absent", f"not known here: {name}"
    return {} if value else {frozenset(): 1.0}


def _quantile(share: float, found: Vector) -> Vector:
    """The value below which a share of each histogram lies, by a straight line within its interval."""
    histograms: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, n in found.items():
        le = dict(labels)["le"]
        histograms[frozenset(one for one in labels if one[0] != "le")].append((float(le.replace("+Inf", "inf")), n))
    quantiles: Vector = {}
    for labels, buckets in histograms.items():
        buckets.sort()
        rank, below, low = share * buckets[-1][1], 0.0, 0.0
        if rank == 0:
            continue
        for bound, n in buckets:
            if n >= rank:
                quantiles[labels] = low if bound == float("inf") else low + (bound - low) * (rank - below) / (n - below)
                break
            below, low = n, bound
    return quantiles


def _line(samples: list[tuple[int, float]], at: int) -> float:
    """Where the straight line through the samples is at an instant (least squares)."""
    middle, level = (sum(column) / len(samples) for column in zip(*samples, strict=True))
    slope = sum((x - middle) * (y - level) for x, y in samples) / sum((x - middle) ** 2 for x, _ in samples)
    return level + slope * (at - middle)


def _names(modifier: object, word: str) -> list[str] | None:
    found = re.search(rf"\b{word} ?\(([^)]*)\)", str(modifier or ""))
    return None if found is None else [name.strip() for name in found[1].split(",") if name.strip()]


def _only(labels: Labels, names: Iterable[str] | None) -> Labels:
    return labels if names is None else frozenset(one for one in labels if one[0] in names)


def _aggregate(expr: AggregateExpr, found: Vector) -> Vector:
    groups: dict[Labels, list[float]] = defaultdict(list)
    for labels, value in found.items():
        groups[_only(labels, _names(expr.modifier, "by") or ())].append(value)
    made = {"sum": sum, "count": len}[str(expr.op)]
    return {labels: float(made(values)) for labels, values in groups.items()}


def _binary(expr: BinaryExpr, left: Vector | float, right: Vector | float) -> Vector | float:
    op, on = str(expr.op), _names(expr.modifier, "on")
    if op in ("and", "or", "unless"):
        return _set(op, on, vector(left), vector(right))
    if isinstance(left, float) and isinstance(right, float):
        return _ARITHMETIC[op](left, right)
    if isinstance(left, float):
        pairs = {labels: (left, value) for labels, value in vector(right).items()}
    elif isinstance(right, float):
        pairs = {labels: (value, right) for labels, value in left.items()}
    else:
        others = {_only(labels, on): value for labels, value in right.items()}
        pairs = {labels: (value, others[_only(labels, on)]) for labels, value in left.items() if _only(labels, on) in others}
    if op in _COMPARISON:
        return {labels: pair[isinstance(left, float)] for labels, pair in pairs.items() if _COMPARISON[op](*pair)}
    return {_only(labels, on): _ARITHMETIC[op](*pair) for labels, pair in pairs.items()}


def _set(op: str, on: list[str] | None, left: Vector, right: Vector) -> Vector:
    there = {_only(labels, on) for labels in right}
    if op == "or":
        had = {_only(labels, on) for labels in left}
        return left | {labels: value for labels, value in right.items() if _only(labels, on) not in had}
    return {labels: value for labels, value in left.items() if (_only(labels, on) in there) == (op == "and")}


def firing(rules: Iterable[Mapping[str, Any]], series: Series, until: int) -> Vector:
    """Evaluate the rules once a minute; the series ALERTS gets what fires, and that at `until` is returned."""
    now_firing: Vector = {}
    parsed = [(rule["alert"], parse(rule["expr"]), seconds(rule.get("for", "0s"))) for rule in rules]
    since: dict[tuple[str, Labels], int] = {}
    for now in range(0, until + 1, STEP):
        active = {(name, labels) for name, expr, _ in parsed for labels in vector(evaluate(expr, series, now))}
        since = {one: since.get(one, now) for one in active}
        waits = {name: wait for name, _, wait in parsed}
        now_firing = {
            frozenset({*labels, ("alertname", name), ("alertstate", "firing")}): 1.0
            for (name, labels), begun in since.items()
            if now - begun >= waits[name]
        }
    for labels in now_firing:
        series.samples["ALERTS"][labels][until] = 1.0
    return now_firing
