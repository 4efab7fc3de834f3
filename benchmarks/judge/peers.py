"""The rules of others, as they decide: when each would have aborted the recorded rollouts.

Ports of decision rules, not of products: Flagger (fluxcd/flagger, success rate at least 99 % and
p99 at most 500 ms over the last minute, 5 failed checks in all, the next check acts), Argo Rollouts
(the same conditions once a minute, more than 2 failures), Kayenta (Mann-Whitney U on minutes of
canary and a baseline of its size, confidence 98 %, tolerance 25 % of the Hodges-Lehmann estimate),
the sequential tests of Lindon & Malek (2022, counts of failures) and Lindon, Sanden & Shirikian
(2022, confidence bands of whole distributions), a likelihood ratio of independent requests, and a
z-test that is simply looked at all the time. Times are seconds since the start, infinite if never.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, ndtri
from scipy.stats import norm

from benchmarks.judge.recording import BAND_SECONDS, Recording
from volery.decide.judge.bets import ODDS

Array = NDArray[np.float64]
ALPHA = 0.01
SUCCESS, SLOW_SHARE = 0.99, 0.01
SCRAPE_SECONDS = 15
CONFIDENCE, TOLERANCE = 0.98, 0.25


def first(score: Array, seconds: float, limit: float = 1.0) -> Array:
    """When a score looked at every so many seconds reaches a limit."""
    reached = score >= limit
    at = (np.argmax(reached, axis=0) + 1) * seconds
    return np.where(reached.any(axis=0), at, np.inf)


def _failed_checks(recording: Recording, every: int) -> NDArray[np.bool_]:
    """Whether the last minute broke the limits, by check; without requests a check fails."""
    minute = {name: _last_minute(values) for name, values in recording.tens.items()}
    n = minute["n"]
    failed = (n <= 0) | (n - minute["k"] < SUCCESS * n) | (minute["slow"] > SLOW_SHARE * n)
    return failed[every // 10 - 1 :: every // 10]


def _last_minute(values: Array) -> Array:
    total = np.cumsum(values, axis=0)
    before = np.concatenate([np.zeros((6, values.shape[1])), total[:-6]])
    return total - before


def flagger(recording: Recording, every: int, threshold: int = 5) -> Array:
    """Flagger: failed checks add up and are never forgotten; the check after the last one acts."""
    failed = np.cumsum(_failed_checks(recording, every), axis=0)
    return first(failed / threshold, every) + every


def argo(recording: Recording, every: int = 60, limit: int = 2) -> Array:
    """Argo Rollouts: aborts when failures exceed the limit."""
    failed = np.cumsum(_failed_checks(recording, every), axis=0)
    return first(failed / (limit + 1), every) + SCRAPE_SECONDS


def kayenta(recording: Recording, minutes: list[int]) -> Array:
    """Kayenta, judged at these minutes on everything so far; any metric that is High aborts."""
    at = np.full(recording.cell.runs, np.inf)
    for minute in minutes:
        high = np.zeros(recording.cell.runs, dtype=bool)
        for metric in ("errors", "p0.5", "p0.99"):
            canary = recording.minutes[f"{metric} canary"][:minute]
            slice_ = recording.minutes[f"{metric} slice"][:minute]
            high |= _high(canary, slice_)
        at = np.where(high & np.isinf(at), minute * 60.0, at)
    return at


def _high(canary: Array, slice_: Array) -> NDArray[np.bool_]:
    size = len(canary)
    differences = (canary[:, None] - slice_[None, :]).reshape(size * size, -1)
    differences.sort(axis=0)
    spread = ndtri((1 + CONFIDENCE) / 2) * np.sqrt(size * size * (2 * size + 1) / 12)
    lower = differences[max(0, int(size * size / 2 - spread) - 1)]
    estimate = np.median(differences, axis=0)
    more = np.nanmean(canary, axis=0) > np.nanmean(slice_, axis=0)
    return (lower > TOLERANCE * np.abs(estimate)) & (estimate > 0) & more


def mann_whitney(recording: Recording) -> Array:
    """The largest standardised U of errors, median and p99, every minute on everything so far;
    a score to be tuned. Only where the canary's mean is at least 5 % more."""
    scores = []
    for metric in ("errors", "p0.5", "p0.99"):
        canary, slice_ = (recording.minutes[f"{metric} {arm}"] for arm in ("canary", "slice"))
        above = (canary[:, None] > slice_[None, :]) + 0.5 * (canary[:, None] == slice_[None, :])
        scores.append(_standardised(above, canary, slice_))
    return np.max(scores, axis=0)


def _standardised(above: Array, canary: Array, slice_: Array) -> Array:
    result = np.zeros_like(canary)
    for minute in range(3, len(canary) + 1):
        u = above[:minute, :minute].sum(axis=(0, 1))
        pooled = np.concatenate([canary[:minute], slice_[:minute]])
        ordered = np.sort(pooled, axis=0)
        ties = (ordered[1:] == ordered[:-1]).sum(axis=0) / (2 * minute)
        variance = minute * minute * (2 * minute + 1) / 12 * np.maximum(1 - ties**3, 0.02)
        z = (u - minute * minute / 2) / np.sqrt(variance)
        more = canary[:minute].mean(0) > 1.05 * slice_[:minute].mean(0)
        result[minute - 1] = np.where(more, np.nan_to_num(z), 0)
    return result


def published(recording: Recording) -> Array:
    """Sequential multinomial counts on failures and confidence bands on latency, half of alpha
    each, canary against the slice of its size."""
    counts = {name: np.cumsum(values, axis=0) for name, values in recording.counts.items()}
    prior = 50.0
    evidence = betaln(prior + counts["k"], prior + counts["k_slice"]) - betaln(prior, prior)
    evidence += (counts["k"] + counts["k_slice"]) * np.log(2)
    worse = counts["k"] > counts["k_slice"]
    errors = first(np.where(worse, evidence, 0) / np.log(2 / ALPHA), 1)
    difference, n, m = recording.bands[:, 0], recording.bands[:, 1], recording.bands[:, 2]
    slow = first(difference - _band(n) - _band(m), BAND_SECONDS, 0.0)
    return np.minimum(errors, slow)


def _band(n: Array) -> Array:
    """Howard & Ramdas (2022): a band around a distribution function that holds at all times."""
    n = np.maximum(n, 3.0)
    return 0.85 * np.sqrt((np.log(1 + np.log(n)) + 0.8 * np.log(1612 * 4 / ALPHA)) / n)


def likelihood_ratio(recording: Recording) -> Array:
    """A mixture of likelihood ratios of independent requests, canary against the slice."""
    counts = {name: np.cumsum(values, axis=0) for name, values in recording.counts.items()}
    n, m = recording.counts["n"], recording.counts["n_slice"]
    share = float(n.sum() / max((n + m).sum(), 1.0))
    logs = []
    for odds in ODDS:
        bad = odds * share / (odds * share + 1 - share)
        ratio = counts["k"] * np.log(bad / share)
        logs.append(ratio + counts["k_slice"] * np.log((1 - bad) / (1 - share)))
    evidence = np.logaddexp.reduce(logs, axis=0) - np.log(len(ODDS))
    return first(evidence / np.log(1 / ALPHA), 1)


def z_test(recording: Recording) -> Array:
    """Two proportions, one-sided at 1 %, looked at every ten seconds."""
    totals = {name: np.cumsum(values, axis=0) for name, values in recording.counts.items()}
    pick = slice(9, None, 10)
    n, k, m, j = (totals[name][pick] for name in ("n", "k", "n_slice", "k_slice"))
    pooled = (k + j) / np.maximum(n + m, 1)
    per = 1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)
    spread = np.sqrt(np.maximum(pooled * (1 - pooled) * per, 1e-12))
    z = (k / np.maximum(n, 1) - j / np.maximum(m, 1)) / spread
    return first(np.where(k + j > 0, z, 0) / norm.ppf(1 - ALPHA), 10)


def fixed_scores(recording: Recording) -> dict[str, Array]:
    """Shares of failed and of slow requests every ten seconds: the k-th largest so far, for rules
    of 1, 2 and 5 strikes. Scores to be tuned."""
    n = np.maximum(recording.tens["n"], 1)
    scores = {}
    for what, bad in (("errors", "k"), ("latency", "over_p99")):
        share = recording.tens[bad] / n
        for strikes in (1, 2, 5):
            scores[f"{what} {strikes}"] = _kth_largest_so_far(share, strikes)
    return scores


def _kth_largest_so_far(values: Array, k: int) -> Array:
    best = np.full((k, values.shape[1]), -np.inf)
    result = np.empty_like(values)
    for index, row in enumerate(values):
        best = np.sort(np.concatenate([best, row[None]]), axis=0)[1:]
        result[index] = best[0]
    return result


RULES = {
    "Flagger 60 s x5": lambda recording: flagger(recording, 60),
    "Flagger 10 s x5": lambda recording: flagger(recording, 10),
    "Argo 99 %, 1 min": argo,
    "Kayenta once at 1 h": lambda recording: kayenta(recording, [60]),
    "Kayenta every 5 min": lambda recording: kayenta(recording, list(range(5, 61, 5))),
    "published sequential": published,
    "likelihood ratio, iid": likelihood_ratio,
    "z-test, continuously": z_test,
}
