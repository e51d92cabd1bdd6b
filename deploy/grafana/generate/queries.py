"""Expressions that several dashboards share. Every one of them asks for the chosen jobs only."""

from __future__ import annotations

from kit import Query, Variable

JOB = Variable("job", "Job", "label_values(vmrelay_build_info, job)")
FLAGS = Variable("flags", "Flags", 'label_values(vmrelay_migrations_total{job=~"$job"}, flags)', everything=".*")
DRIVER = Variable("driver", "Driver", 'label_values(vmrelay_migrations_total{job=~"$job"}, driver)', everything=".*")
HOST = Variable("host", "Host", 'label_values(vmrelay_agent_up{job=~"$job"}, host)', many=False)
WINDOW = "$__rate_interval"


def of(metric: str, *matchers: str) -> str:
    """A metric of the chosen jobs."""
    chosen = ", ".join(('job=~"$job"', *matchers))
    return f"{metric}{{{chosen}}}"


def total(metric: str, by: str, *matchers: str) -> str:
    """The sum of a gauge over processes; ``by`` may be empty."""
    return f"sum{f' by ({by}) ' if by else ''}({of(metric, *matchers)})"


def highest(metric: str, by: str, *matchers: str) -> str:
    """The highest value of a gauge that several processes may show; ``by`` may be empty."""
    return f"max{f' by ({by}) ' if by else ''}({of(metric, *matchers)})"


def ratio(part: str, whole: str) -> str:
    """A share; nothing, rather than no number, where there is nothing to share."""
    return f"{part} / ({whole} > 0)"


def rate(metric: str, by: str, *matchers: str, window: str = WINDOW) -> str:
    """How fast a counter of processes rises, per second."""
    return f"sum by ({by}) (rate({of(metric, *matchers)}[{window}]))"


def more(metric: str, by: str, *matchers: str) -> str:
    """By how much a counter of processes rose over the dashboard's range."""
    return f"sum by ({by}) (increase({of(metric, *matchers)}[$__range]))"


def each_minute(metric: str, by: str, *matchers: str) -> str:
    """How fast a counter of processes rises, per minute."""
    return f"60 * {rate(metric, by, *matchers)}"


def kept(metric: str, by: str, *matchers: str) -> str:
    """How fast a counter of the journal rises, per minute.

    The leading scheduler alone shows it, and another one goes on where it was: the recorded ``relay:…:max`` is one
    series over all of that. It never begins anew, so sums may be taken first, and the first event of a new error code
    counts. The subquery's resolution is the interval at which Prometheus evaluates rules.
    """
    return f"60 * rate((sum by ({by}) ({of(f'relay:{metric}:max', *matchers)}))[$__rate_interval:])"


def since(metric: str, by: str, *matchers: str) -> str:
    """By how much it rose over the dashboard's range, exactly; all there is where Prometheus has nothing older."""
    now = f"sum by ({by}) ({of(f'relay:{metric}:max', *matchers)})"
    before = f"sum by ({by}) ({of(f'relay:{metric}:max', *matchers)} offset $__range)"
    return f"({now} - {before} or {now})"


def or_zero(expr: str, label: str = "") -> str:
    """Zero rather than nothing, for what may never have happened; ``label`` names that series."""
    zero = f'label_replace(vector(0), "{label}", "none", "", "")' if label else "vector(0)"
    return f"({expr}) or on () {zero}"


def quantile(share: float, metric: str, by: str = "", *matchers: str, window: str = WINDOW) -> str:
    """A quantile of a histogram, over all processes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, *matchers, window=window)})"


def quantiles(metric: str, *shares: float, matchers: tuple[str, ...] = ()) -> list[Query]:
    """Several quantiles of one histogram, each as a line."""
    return [Query(quantile(share, metric, "", *matchers), f"p{share * 100:g}") for share in shares]


def within(metric: str, bound: str) -> str:
    """Which share of what a histogram saw over the dashboard's range was no more than a bucket's bound."""
    return ratio(more(f"{metric}_bucket", "job", f'le="{bound}"'), more(f"{metric}_count", "job"))


def most(number: int, expr: str) -> str:
    """The highest so many that are not 0, the first one first."""
    return f"sort_desc(topk({number}, {expr} > 0))"
