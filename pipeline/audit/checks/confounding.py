"""Checks of who and where: does the source, or the population, give the label away?

Units are patients, not scans: ten scans of one patient are one piece of evidence.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import probes
from pipeline.audit.audited_pool import Names, Subject, known, named
from pipeline.audit.check import Check, Severity, Table
from pipeline.audit.checks.associations import (
    MAX_P,
    AgeGap,
    Association,
    age_gaps,
    associations,
    mutual_information,
    strongest_first,
)
from pipeline.audit.probes import Score

_ADULT_AGE = 18
_MOSTLY_KNOWN = 0.5
_PREDICTED = ("source", "age band", "sex", "view")


def check(subject: Subject, population: dict[str, Score]) -> list[Check]:
    """All checks of this family.

    Args:
        subject: The pool.
        population: How well age, sex, view and population together predict each label.
    """
    return [_source(subject), source_predictable(subject), _population(subject, population)]


def predictors(subject: Subject, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Age, sex, view and population as numbers, of the rows where all that is mostly known is known.

    So a probe on them never learns from a blank: that nothing is known of a class is said by the associations.
    """
    asked: list[NDArray[np.float64]] = []
    is_known_R = np.ones(len(rows), dtype=np.bool_)
    age_R = subject.age_N[rows].astype(np.float64)
    for known_R, columns in (
        (np.isfinite(age_R), [age_R]),
        *(
            (known(values_N[rows]), _one_hot(values_N[rows]))
            for values_N in (subject.sex_N, subject.view_N, subject.population_N)
        ),
    ):
        if known_R.mean() >= _MOSTLY_KNOWN:
            is_known_R &= known_R
            asked += columns
    return rows[is_known_R], np.stack(asked, axis=1)[is_known_R] if asked else np.empty((int(is_known_R.sum()), 0))


def _one_hot(values_R: Names) -> list[NDArray[np.float64]]:
    return [(values_R == value).astype(np.float64) for value in sorted(set(values_R[known(values_R)]))]


def source_predictable(subject: Subject) -> Check:
    """How well source, age band, sex and view are told from the embedding."""
    why = "Where the picture shows which hospital it is from, a model can learn the hospital instead of the illness."
    fix = "Balance the classes within each source, and test on a source that was left out."
    limit = subject.config.audit.warn_source_auroc
    if not subject.has_emb_N.any():
        return Check("source-predictable", "ok", "Not checked: there are no embeddings.", why, fix, checked=False)
    columns = dict(zip(_PREDICTED, (subject.source_N, subject.age_band_N, subject.sex_N, subject.view_N), strict=True))
    score_of: dict[str, dict[str, Score]] = {}
    for name, values_N in columns.items():
        rows = subject.sample(np.flatnonzero(known(values_N) & subject.has_emb_N), f"predict/{name}")
        if len(set(values_N[rows])) < 2:
            continue
        score_of[name] = probes.probe(
            subject.components(rows),
            values_N[rows],
            subject.group_N[rows],
            None,
            kind="linear",
            num_bootstrap=subject.config.audit.num_bootstrap,
            rng=subject.rng(f"predict/{name}"),
        )
    table = Table(
        ("what", "value", "AUROC", "95% from", "to", "scans"),
        tuple(
            (name, value, s.auroc, *(s.auroc_ci95 or (None, None)), s.num_positive)
            for name, scores in score_of.items()
            for value, s in scores.items()
        ),
    )
    sources = score_of.get("source", {})
    if not sources:
        num = len(set(subject.source_N[known(subject.source_N)]))
        few = f"fewer than two of {num} sources have {probes.MIN_GROUPS} patients or more"
        message = f"Not checked: {('no source is known', 'scans come from one source')[num] if num < 2 else few}."
        return Check("source-predictable", "ok", message, why, fix, table=table if table.rows else None, checked=False)
    worst, strongest = max(sources.items(), key=lambda item: item[1].auroc)
    over = [name for name, s in sources.items() if s.auroc > limit]
    area = probes.with_interval(strongest.auroc, strongest.auroc_ci95)
    return Check(
        "source-predictable",
        "warn" if over else "ok",
        f"The embedding tells {worst} from the other sources with AUROC {area}.",
        why,
        fix,
        count=len(over),
        value=strongest.auroc,
        threshold=limit,
        table=table,
    )


def _source(subject: Subject) -> Check:
    why = "Where a class comes from a place of its own, whatever marks the place answers the question."
    fix = "Bring every class from every source, or compare classes within one source; more training does not help."
    check_id = "source-label-confounding"
    if len(subject.findings) < 2:
        return Check(check_id, "ok", "Not checked: fewer than two classes are labelled.", why, fix, checked=False)
    if not known(subject.source_N).any():
        return Check(check_id, "ok", "Not checked: no source is known.", why, fix, checked=False)
    where, associated = _of_the_worst_part(subject, "source", subject.source_N)
    if not associated:
        only = sorted(set(subject.source_N[subject.labelled][known(subject.source_N[subject.labelled])]))
        message = f"All labelled scans come from one source ({', '.join(only) or 'unknown'})."
        return Check(check_id, "ok", message, why, fix, value=0.0)
    information = mutual_information(subject, subject.source_N)
    severity, over = _severity(subject, associated, frozenset())
    strongest = next((association for association in associated if _over(subject, association)), associated[0])
    message = (
        f"{where}{_in_words(strongest)} The source carries {information:.0%} of the information in the label."
        if severity != "ok"
        else f"Source and label go together with Cramér's V {strongest.cramers_v:.2f} at most ({strongest.finding})."
    )
    rows = np.flatnonzero(np.isin(subject.label_N, over))[:12]
    return Check(
        check_id,
        severity,
        message,
        why,
        fix,
        count=len(over),
        value=strongest.cramers_v,
        threshold=_limit(subject, severity),
        evidence=subject.evidence(rows, [f"{subject.label_N[row]}, {named(subject.source_N)[row]}" for row in rows]),
        table=_crosstab(subject, subject.source_N),
    )


def _of_the_worst_part(subject: Subject, column: str, values_N: Names) -> tuple[str, list[Association]]:
    """Associations of the whole pool, or those of its training or test part alone where they are worse.

    A pool that joins two parts in which a source goes with opposite classes shows nothing as a whole.

    Returns:
        What the message begins with, and the associations.
    """
    order = ("ok", "warn", "block")
    whole = associations(subject, column, values_N)
    worst = ("", whole)
    for side, name in (("train", "training"), ("test", "test")):
        inside_N = values_N.copy()
        inside_N[subject.side_N != side] = None
        inside = [association for association in associations(subject, column, inside_N) if not association.missing]
        before, now = (_severity(subject, these, frozenset())[0] for these in (worst[1], inside))
        if order.index(now) > order.index(before):
            worst = (f"In the {name} part alone: ", inside)
    return worst


def _population(subject: Subject, scores: dict[str, Score]) -> Check:
    why = "Adults of one class against children of another differ in everything but the illness."
    fix = "Match the classes by age, sex, view and population, or restrict the question to one of them."
    check_id = "population-confounding"
    columns = columns_of(subject)
    if len(subject.findings) < 2:
        return Check(check_id, "ok", "Not checked: fewer than two classes are labelled.", why, fix, checked=False)
    if not any(known(values_N).any() for values_N in columns.values()):
        message = "Not checked: no age, sex, view or population is known."
        return Check(check_id, "ok", message, why, fix, checked=False)
    associated = [
        association for name, values_N in columns.items() for association in associations(subject, name, values_N)
    ]
    associated.sort(key=strongest_first)
    elsewhere = associations(subject, "source", subject.source_N)
    of_their_own = frozenset(
        association.finding for association in elsewhere if association.exclusive and not association.missing
    )
    severity, over = _severity(subject, associated, of_their_own)
    audit = subject.config.audit
    best = max(scores.values(), key=lambda s: s.lower, default=None)
    if best is not None and best.lower >= audit.block_shortcut_auroc:
        severity = "block"
    elif best is not None and best.lower > audit.warn_shortcut_auroc and severity == "ok":
        severity = "warn"
    wide = [gap for gap in age_gaps(subject) if abs(gap.years) > audit.warn_age_gap_years and gap.p_value < MAX_P]
    message = _population_message(subject, associated, scores, severity, of_their_own)
    if wide:
        severity = "warn" if severity == "ok" else severity
        over += [gap.finding for gap in wide if gap.finding not in over]
        message += f" {_gap_words(wide[0])}"
    return Check(
        check_id,
        severity,
        message,
        why,
        fix,
        count=max(len(over), int(severity != "ok")),
        value=next((association for association in associated if _over(subject, association)), associated[0]).cramers_v
        if associated
        else 0.0,
        threshold=_limit(subject, severity),
        table=Table(
            ("class", "by", "Cramér's V", "exclusive", "where"),
            tuple(
                (
                    association.finding,
                    association.column,
                    association.cramers_v,
                    association.exclusive,
                    association.words,
                )
                for association in [of for of in associated if of.words][:12]
            ),
        )
        if associated
        else None,
    )


def _gap_words(gap: AgeGap) -> str:
    older = "older" if gap.years > 0 else "younger"
    own, others = gap.age_years
    return (
        f"People with {gap.finding} are {abs(gap.years):.0f} years {older} than the others "
        f"(median {own:.0f} against {others:.0f})."
    )


def columns_of(subject: Subject) -> dict[str, Names]:
    """What tells people apart."""
    return {
        "age band": subject.age_band_N,
        "sex": subject.sex_N,
        "view": subject.view_N,
        "population": subject.population_N,
    }


def _population_message(
    subject: Subject,
    associated: list[Association],
    scores: dict[str, Score],
    severity: Severity,
    of_their_own: frozenset[str],
) -> str:
    text = ""
    if severity != "ok" and associated:
        worst = [association for association in associated if _over(subject, association)][:3] or associated[:1]
        text = _all_in_words(worst)
        if worst[0].missing and worst[0].finding in of_their_own:
            text += f" And {worst[0].finding} comes from a source of its own."
        text += _adults_and_children(subject, worst[0].finding)
    elif associated:
        text = f"Age, sex, view and population go with the label with Cramér's V {associated[0].cramers_v:.2f} at most."
    else:
        recorded = [name for name, values_N in columns_of(subject).items() if known(values_N).any()]
        text = f"All scans are alike in what is known ({', '.join(recorded)})."
    if scores:
        place = subject.findings.index
        finding, strongest = max(scores.items(), key=lambda item: (round(item[1].fair[0], 3), place(item[0])))
        area, interval = strongest.fair
        text += f" Together they tell {finding} with AUROC {probes.with_interval(area, interval)}, without a picture."
    return text.strip()


def _adults_and_children(subject: Subject, finding: str) -> str:
    """Said where the class and the others are of different ages."""
    of = np.flatnonzero(subject.label_N == finding)
    others = np.array([row for row in subject.labelled if subject.label_N[row] != finding], dtype=np.int64)
    sides = [_grown_up(subject, of), _grown_up(subject, others)]
    if None not in sides and sides[0] != sides[1]:
        return " These are adults against children."
    if sides.count(None) == 1:
        unknown, with_ages = (finding, "the others") if sides[0] is None else ("the others", finding)
        if sides[0] or sides[1]:
            return f" The age of {unknown} is not known, {with_ages} are mostly adults."
        return f" The age of {unknown} is not known, {with_ages} are children: adults may stand against children here."
    return ""


def _grown_up(subject: Subject, rows: NDArray[np.int64]) -> bool | None:
    """Whether most of these are adults, by age or by the population's name; None where neither tells."""
    ages = subject.age_N[rows][~np.isnan(subject.age_N[rows])]
    if len(ages) >= len(rows) / 2 and len(rows):
        return bool(np.median(ages) >= _ADULT_AGE)
    names = Counter(str(value).casefold() for value in subject.population_N[rows])
    if not names:
        return None
    common = names.most_common(1)[0][0]
    if any(word in common for word in ("child", "pediatric", "paediatric", "infant", "neonat")):
        return False
    return True if "adult" in common else None


def _severity(
    subject: Subject, associated: list[Association], of_their_own: frozenset[str]
) -> tuple[Severity, list[str]]:
    """How bad it is, and for which classes.

    Args:
        subject: The pool.
        associated: Associations.
        of_their_own: Classes from a source of their own; where nothing is known of such a class but of the others,
            nothing speaks for its being of the same people.
    """
    limit = subject.config.audit.block_association
    over = [association.finding for association in associated if _over(subject, association)]
    blocks = any(
        association.p_value < MAX_P
        and (
            association.finding in of_their_own
            if association.missing
            else association.exclusive or association.cramers_v >= limit
        )
        for association in associated
    )
    return "block" if blocks else "warn" if over else "ok", list(dict.fromkeys(over))


def _limit(subject: Subject, severity: Severity) -> float:
    audit = subject.config.audit
    return audit.block_association if severity == "block" else audit.warn_association


def _over(subject: Subject, association: Association) -> bool:
    return association.p_value < MAX_P and (
        association.exclusive or association.cramers_v > subject.config.audit.warn_association
    )


def _all_in_words(associated: list[Association]) -> str:
    """A sentence for each association; what is not known of one class is said in one."""
    sentences = []
    for association in associated:
        columns = [of.column for of in associated if of.missing and of.finding == association.finding]
        if association.missing and len(columns) > 1:
            which = f"{', '.join(columns[:-1])} and {columns[-1]} of {association.finding}"
            sentence = f"The {which} are not known, those of other classes are: they cannot be compared."
        else:
            sentence = _in_words(association)
        sentences.append(sentence)
    return " ".join(dict.fromkeys(sentences))


def _in_words(association: Association) -> str:
    if association.missing:
        which = f"{association.column} of {association.finding}"
        return f"The {which} is not known, that of other classes is: it cannot be compared."
    if association.against is not None:
        return f"{association.finding} shares no {association.column} with {association.against} ({association.words})."
    how = "shares no" if association.exclusive else "differs in"
    tail = " with any other class" if association.exclusive else " from the other classes"
    strength = f"{association.words}; Cramér's V {association.cramers_v:.2f}"
    return f"{association.finding} {how} {association.column}{tail} ({strength})."


def _crosstab(subject: Subject, values_N: Names) -> Table:
    rows = subject.labelled
    counts = Counter(zip(subject.label_N[rows], named(values_N[rows]), strict=True))
    categories = sorted({value for _, value in counts})
    lines: list[tuple[Any, ...]] = [(f, *(counts[f, value] for value in categories)) for f in subject.findings]
    return Table(("scans of", *categories), tuple(lines))
