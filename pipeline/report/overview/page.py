"""The overview page of a run of independent findings: one row a finding, the weakest first."""

from collections.abc import Iterable
from itertools import combinations
from urllib.parse import quote

from markupsafe import Markup

from pipeline.labels.class_counts import MIN_LABELS
from pipeline.pages.wording import count, decimal, duration, interval, known, percent, plural, words
from pipeline.report.gather import Row
from pipeline.report.overview import certificates, figures
from pipeline.report.overview.data import FEW, Overview, Part, own_scores
from pipeline.report.page_env import environment
from pipeline.report.summary import Tile

MAX_TOGETHER = 20  # findings in the table of pairs: those seen most
NAMED = 6  # findings named in a sentence
ALARMS_NAMED = 3  # findings whose false alarms are told in the first lines
STAGE = "report"  # whose time would change the page with every build


def html(overview: Overview) -> str:
    """The page as text."""
    return (
        environment()
        .get_template("overview.html.j2")
        .render(
            run=overview,
            name=overview.folder.resolve().name,
            title=title(overview),
            sentences=sentences(overview),
            tiles=tiles(overview),
            cautions=cautions(overview),
            pages={part.finding: page_of(overview, part) for part in overview.parts},
            figures={
                "dots": _markup(figures.dots(overview)),
                "curve": _markup(figures.mean_curve(overview)),
            },
            rounds=rounds(overview),
            outlooks=outlooks(overview),
            against_random=against_random(overview),
            together=together(overview),
            certificates=certificates.certificates(overview),
            releases_together=certificates.together(overview),
            costs=costs(overview),
            flow=flow(overview),
            num_missed=0.05 * len(overview.scored),
        )
    )


def _markup(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)


def page_of(overview: Overview, part: Part) -> str | None:
    """The folder of a finding's own pages as a link from this one; None where it has none."""
    if not part.card:
        return None
    return f"../{quote(part.folder.relative_to(overview.folder).as_posix())}/report"


def title(overview: Overview) -> str:
    """The result in one line."""
    if overview.last is None:
        return "This run has no finished round yet"
    read = plural(overview.last.get("num_expert"), "expert reading")
    if not overview.scored:
        return f"{read} of {plural(len(overview.parts), 'finding')}: the sealed holdout has no scores yet"
    if len(overview.parts) == 1:
        return f"AUROC {decimal(overview.scored[0].auroc)} for {overview.parts[0].finding} from {read}"
    scored = plural(len(overview.scored), "finding")
    return f"Mean AUROC {decimal(overview.scores.get('auroc'))} over {scored} from {read}"


def sentences(overview: Overview) -> list[str]:
    """The result for a clinician in plain sentences; then what waits."""
    texts = [] if overview.last is None else _result(overview, overview.last)
    if overview.last is None or overview.status.get("state") == "waiting":
        texts.append(_waiting(overview))
    return [text for text in texts if text]


def _result(overview: Overview, last: Row) -> list[str]:
    read = plural(last.get("num_expert"), "expert reading")
    among = f" among {plural(overview.flow['train'], 'training scan')}" if known(overview.flow.get("train")) else ""
    if not overview.scored:
        return [
            f"From {read}{among}, no finding could be scored yet, so this report cannot say how good the model is. "
            "The table says why."
        ]
    what = _named(part.finding for part in overview.scored)
    mean = "an AUROC" if len(overview.scored) == 1 else "a mean AUROC"
    scans = overview.scores.get("num_scans")
    where = f" on {plural(scans, 'sealed holdout scan')}" if known(scans) else " on the sealed holdout"
    text = f"From {read}{among}, the model says of each scan whether it shows {what}, with {mean} of "
    return [
        text + f"{decimal(overview.scores.get('auroc'))}{where}.",
        _weakest(overview),
        *_false_alarms(overview, last),
    ]


def _false_alarms(overview: Overview, last: Row) -> list[str]:
    """How many scans without any finding would be called one; then each finding, the most false alarms first."""
    texts, healthy = [], last.get("healthy_scans")
    if healthy:
        bounds = f", 95% interval {interval(healthy['ci95'], as_percent=True)}" if healthy["ci95"] else ""
        texts.append(
            f"False alarms: of {plural(healthy['num_scans'], 'healthy scan')} of the holdout, which "
            f"{'shows' if healthy['num_scans'] == 1 else 'show'} none of these findings, the model would call "
            f"{count(healthy['num_alarmed'])} at least one of them ({percent(healthy['share'])}{bounds})."
        )
    rows = [
        (part.scores["fp"] / part.num_without, part)
        for part in overview.scored
        if part.num_without and part.num_with and known(part.scores.get("fp"))
    ]
    worst = sorted(rows, key=lambda row: (-row[0], row[1].finding))[:ALARMS_NAMED]
    parts = [
        f"{part.finding}: {count(part.scores['fp'])} of {count(part.num_without)} scans without it called it "
        f"({percent(share)}), {count(part.scores['fn'])} of {count(part.num_with)} with it missed"
        for share, part in worst
    ]
    if parts:
        texts.append(f"By finding, the most false alarms first: {'; '.join(parts)}. The table has the intervals.")
    return texts


def _weakest(overview: Overview) -> str:
    weakest, left = overview.scored[0], [part.finding for part in overview.parts if part.auroc is None]
    ci = weakest.scores.get("auroc_ci95")
    bounds = f" (95% interval {interval(ci)})" if ci else ""
    few = f"; {weakest.remark}" if weakest.is_thin else ""
    head = f"The weakest is {weakest.finding}, AUROC {decimal(weakest.auroc)}{bounds}{few}."
    missing = f" Not scored: {_named(left)}." if left else ""
    return (head if len(overview.scored) > 1 else "") + missing


def _named(findings: Iterable[str], most: int = NAMED) -> str:
    names = list(findings)
    more = len(names) - most
    return words([*names[:most], f"{more} more"] if more > 0 else names)


def _waiting(overview: Overview) -> str:
    if overview.asked is None:
        return "No queue has been written and no round has finished, so there is nothing to score yet."
    number, asked, left = overview.asked
    return (
        f"Round {number} asks the experts to read {plural(asked, 'scan')}; "
        f"{plural(left, 'scan still waits', 'scans still wait')} for an answer."
    )


def tiles(overview: Overview) -> list[Tile]:
    """The key numbers, most important first."""
    scores, scored = overview.scores, overview.scored
    expert, train = (overview.last or {}).get("num_expert"), overview.flow.get("train")
    share = f"{percent(expert / train)} of {plural(train, 'training scan')}" if expert and train else "training scans"
    weak = scored[0] if scored else None
    bounds = f", 95% interval {interval(weak.scores['auroc_ci95'])}" if weak and weak.scores.get("auroc_ci95") else ""
    thin = [part.finding for part in scored if part.is_thin]
    few = (
        f"{len(thin)} of them on fewer than {FEW} scans with it, or without"
        if thin
        else f"each on {FEW} or more of both"
    )
    return [
        Tile("Expert readings", count(expert), f"{share}, each read for every finding"),
        Tile("Mean AUROC", decimal(scores.get("auroc")), "the mean hides the weakest" if scored else "no scores yet"),
        Tile("Weakest finding", decimal(weak.auroc if weak else None), f"{weak.finding}{bounds}" if weak else "–"),
        Tile("Findings scored", f"{len(scored)} of {len(overview.parts)}", few if scored else "the table says why"),
    ]


def cautions(overview: Overview) -> list[str]:
    """What limits every finding; what limits one alone stands on its page."""
    of_parts = [part.cautions for part in overview.parts if part.cautions]
    common = [text for text in of_parts[0] if all(text in other for other in of_parts)] if of_parts else []
    thin = [part.finding for part in overview.scored if part.is_thin]
    if thin:
        common.append(f"The holdout has fewer than {FEW} scans with, or without, {_named(thin)}: too few to judge by.")
    few = [part.finding for part in overview.parts if part.row and part.has_few_labels]
    if few:
        common.append(
            f"Fewer than {MIN_LABELS} expert labels say that it is there, or that it is not, of {_named(few)}: the "
            "class of few labels has no say in roll-backs and wins no operating point."
        )
    left = [part.finding for part in overview.parts if part.auroc is None]
    if left and overview.scored:
        common.append(f"The mean leaves out {_named(left)}, which could not be scored.")
    if len(overview.parts) > 1 and overview.last is not None:
        common.append("Each finding has limits of its own; read them with its numbers.")
    return common or ["Research use only: this is not a medical device, and it has not been tested in care."]


def rounds(overview: Overview) -> list[Row]:
    """One row a round: means, the weakest finding, what a random draw gave, which findings were rolled back."""
    random = {row["round"]: row["auroc"] for row in figures.random_means(overview) if row["is_same"]}
    rows = []
    for row in overview.rounds:
        own = row.get("findings") or {}
        scored = sorted((value, f) for f, r in own.items() if known(value := own_scores(r, f).get("auroc")))
        rows.append(
            {
                "row": row,
                "scores": row.get("holdout") or {},
                "weakest": scored[0] if scored else None,
                "num_scored": len(scored),
                "random": random.get(row["round"]),
                "rolled_back": _named((f for f, r in own.items() if r.get("rolled_back")), 3),
            }
        )
    return rows


def outlooks(overview: Overview) -> list[Row]:
    """What further labels would buy, one row a finding: the gain at the last horizon, or why none is forecast."""
    rows = []
    for part in overview.parts:
        if not part.outlook:
            continue
        forecast, advice = part.outlook["forecast"], part.outlook["advice"]
        gain = forecast["scores"]["auroc"]["gains"][-1] if forecast["scores"] else {}
        about = {"part": part, "labels": forecast["num_labels"], "why": forecast["why"], "stop": advice["stop"]}
        interval = [gain["low"], gain["high"]] if gain else None
        further = {"further": gain.get("labels"), "gain": gain.get("mean"), "interval": interval}
        rows.append(about | further | {"kappa": part.outlook["stability"]["kappa"]})
    return rows


def against_random(overview: Overview) -> str:
    """What choosing the scans gained over drawing them at random on the same budget."""
    if not overview.scored:
        return ""
    if (overview.config.get("strategy") or {}).get("name") == "random":
        return "This run draws its scans at random itself, so there is nothing to compare."
    last = overview.last or {}
    same = [row for row in figures.random_means(overview) if row["round"] == last.get("round")]
    if not same:
        return "No random draw on the same budget was run, so what choosing the scans gained is not known."
    shared = plural(same[0]["num_findings"], "finding")
    over = "" if same[0]["is_same"] else f" over the {shared} that both could score"
    return (
        f"On the same budget of {plural(last.get('num_expert'), 'reading')}, scans drawn at random reach a mean AUROC "
        f"of {decimal(same[0]['auroc'])} against {decimal(same[0]['ours'])} here{over}. That is one run of each: a "
        "small difference may be luck."
    )


def together(overview: Overview) -> Row | None:
    """How often the experts saw two findings in one scan; None with one finding, or none seen."""
    ranked = sorted(overview.parts, key=lambda part: -len(part.present))
    shown = [part for part in ranked[:MAX_TOGETHER] if part.present]
    if len(overview.parts) < 2 or not shown:
        return None
    pairs = {(a.finding, b.finding): len(a.present & b.present) for a, b in combinations(shown, 2)}
    both = pairs | {(b, a): number for (a, b), number in pairs.items()}
    seen: dict[str, int] = {}
    for part in overview.parts:
        for image_id in part.present:
            seen[image_id] = seen.get(image_id, 0) + 1
    clear = frozenset.intersection(*(part.absent for part in overview.parts))
    return {
        "parts": shown,
        "both": both,
        "num_left_out": len([part for part in overview.parts if part.present]) - len(shown),
        "num_several": sum(number > 1 for number in seen.values()),
        "num_one": sum(number == 1 for number in seen.values()),
        "num_clear": len(clear),
        "num_open": overview.num_read - len(seen) - len(clear),
    }


def flow(overview: Overview) -> list[tuple[str, str]]:
    """Counts from the pool to the two sides; empty where there is no manifest."""
    named = {
        "num_not_chosen": "not chosen (pool.where)",
        "found": "files found",
        "quarantined": "set aside",
        "readable": "readable scans",
        "patients": "patients",
        "groups": "groups never split",
        "train": "training pool",
        "holdout": "sealed holdout",
        "holdout_patients": "its patients",
    }
    if not known(overview.flow.get("found")):
        return []
    sources = [("sources", _named(overview.flow["sources"]))] if overview.flow["sources"] else []
    counts = [(name, count(overview.flow[key])) for key, name in named.items() if known(overview.flow.get(key))]
    who = [(f"labels: {row['provenance']}", count(row["num_labels"])) for row in overview.flow.get("provenance") or ()]
    return counts + who + sources


def costs(overview: Overview) -> list[tuple[str, str]]:
    """What the run took: readings, the experts' time as far as it was measured, and the computer's by stage."""
    timed = [
        row["num_answers"] * row["seconds_per_scan"]
        for row in overview.annotators.get("annotators") or ()
        if known(row.get("seconds_per_scan"))
    ]
    rows = [("training scans read by experts", count(overview.num_read))]
    rows += [("reading time, about", duration(sum(timed)))] if timed else []
    stages: dict[str, float] = {}
    for row in overview.stages:
        if row["name"] != STAGE:
            stages[row["name"]] = stages.get(row["name"], 0.0) + (row.get("seconds") or 0.0)
    rows += [("computing time", duration(sum(stages.values())))] if stages else []
    return rows + [(f"– {name}", duration(seconds)) for name, seconds in stages.items()]
