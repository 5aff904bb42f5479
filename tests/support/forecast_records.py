"""Forecasts as the rounds leave them, for tests of what is made of them."""

from pipeline.learn.stopping import record

METRICS = ("auroc", "accuracy", "balanced_accuracy")


def score(num_labels, now=0.9):
    gains = [{"labels": n, "mean": 0.0002 * n, "low": -0.0001 * n, "high": 0.0005 * n} for n in (20, 50, 100)]
    ahead = [
        {"num_labels": num_labels + g["labels"], "score": now + g["mean"]} | {e: now + g[e] for e in ("low", "high")}
        for g in gains
    ]
    before = [
        {"num_labels": int(share * num_labels), "score": now - 0.05 * (1 - share), "low": None, "high": None}
        for share in (0.2, 0.6, 1.0)
    ]
    observed = [
        {"num_labels": share * num_labels, "score": now - 0.05 * (1 - share), "standard_error": 0.02}
        for share in (0.2, 0.4, 0.6, 0.8)
    ]
    return {"now": now, "observed": observed, "curve": before + ahead, "gains": gains}


def forecast(num_labels, why="", buys_little=False):
    scores = {} if why else {name: score(num_labels) for name in METRICS}
    return {
        "why": why,
        "num_labels": num_labels,
        "confidence": 0.9,
        "scores": scores,
        "buys_little": buys_little,
    }


def stability(kappa, mean=None, why=""):
    return {
        "kappa": kappa,
        "num_scans": 200,
        "why": why,
        "mean": mean,
        "num_comparisons": 3,
        "threshold": 0.99,
        "is_stable": mean is not None and mean >= 0.99,
    }


def write_forecasts(folder, num_rounds=5, budget=20, by=()):
    """The first round can say nothing, the others forecast; `by` is what the last one advises to stop by."""
    for number in range(1, num_rounds + 1):
        is_last = number == num_rounds
        ahead = forecast(number * budget, "20 expert labels, and 30 are needed (stop.min_labels)" * (number == 1))
        change = stability(
            None if number == 1 else 0.9 + 0.02 * number,
            mean=(0.995 if is_last and "stable" in by else 0.95) if number > 3 else None,
            why="this round or the one before has no classifier" * (number == 1),
        )
        reasons = list(by) if is_last else []
        advice = {"stop": bool(reasons), "by": reasons, "why": ["said of the forecast", "said of the predictions"]}
        content = {"round": number, "num_expert": number * budget, "forecast": ahead, "stability": change}
        record.write(folder, number, content | {"advice": advice, "fingerprint": "0"})
