"""What evaluate, compare and release print in the end."""

from typing import Any

from pipeline.cli.printed.console import between, say, score
from pipeline.pages.wording import named


def evaluation(result: dict[str, Any]) -> None:
    """The evidence in short."""
    if "findings" in result:
        for finding, part in result["findings"].items():
            say(f"— {finding}")
            evaluation(part)
        say(f"all findings: {result['report']}")
        return
    if "metrics" in result:
        say(f"{result['a']} against {result['b']} on {result['num_scans']} scans of {result['num_groups']} groups")
        for row in result["metrics"]:
            say(
                f"{named(row['metric']):<18} {score(row['a'])}  {score(row['b'])}  "
                f"difference {score(row['difference'])}{between(row['ci95'])}, "
                f"p {score(row['p_value'])} (Holm {score(row['p_holm'])})"
            )
    else:
        overall, scope = result["overall"], result["scope"]
        say(f"{scope['kind']}: {scope['num_scans']} scans of {scope['num_groups']} groups")
        say(f"the finding is {scope['positive']}" if scope["positive"] else "means over all classes")
        for name in ("auroc", "auprc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"):
            say(f"{named(name):<18} {score(overall[name])}{between(overall[f'{name}_ci95'])}")
        if "act_or_defer" in result:
            _say_alone(result["act_or_defer"])
        if "audit" in result:
            known = result["audit"]
            say(
                f"left out because the run knows them: {known['num_left_out']} scans "
                f"({known['num_copies']} copies, {known['num_shared_patients']} patients); "
                f"of other classes: {known['num_other_classes']}; the pool's own audit: {known['verdict']}"
            )
    say(f"report: {result['report']}")


def _say_alone(certified: dict[str, Any]) -> None:
    """What the model may decide alone."""
    from pipeline.report.sections.act_or_defer import missing  # here, for it takes long to import

    say(f"promised error below {certified['promised_error']:g}, at {certified['confidence']:.0%} confidence a side:")
    for finding, row in certified["findings"].items():
        say(
            f"{finding}: decides {row['share_alone']:.0%} alone ({row['share_no']:.0%} no, "
            f"{row['share_yes']:.0%} yes), asks a person about {row['share_ask']:.0%}"
        )
        for answer, side in row["sides"].items():
            if not side["certified"]:
                say(f"  never {answer} alone: {missing(side)}")


def comparison(result: dict[str, Any]) -> None:
    """Runs side by side, and what their differences show."""
    for run in result["runs"]:
        scores = run["scores"] or {}
        say(
            f"{run['run']}: {run['rounds_finished']} rounds, {run['num_expert'] or 0} expert labels, AUROC "
            f"{score(scores.get('auroc'))}{between(scores.get('auroc_ci95'))}, audit {run['verdict'] or '–'}"
        )
        if run["reason"] or run["note"]:
            say(f"  {run['reason'] or run['note']}")
    for pair in result["pairs"]:
        of = f", {pair['finding']}" if pair["finding"] else ""
        row = next(row for row in pair["metrics"] if row["metric"] == "auroc")
        say(
            f"{pair['b']} less {pair['a']}{of}, {pair['num_scans']} scans: AUROC {score(row['difference'])}"
            f"{between(row['ci95'])}, p {score(row['p_value'])} (Holm {score(row['p_holm'])})"
        )
    for row in result["not_paired"]:
        of = f", {row['finding']}" if row["finding"] else ""
        say(f"not paired: {row['a']} and {row['b']}{of}: {row['reason']}")
    say(f"{len(result['options'])} options differ; page: {result['page']}")


def released(result: dict[str, Any]) -> None:
    """The release that was written."""
    certificate = result["certificate"]
    if "findings" in certificate:
        say(f"{result['out']}: {certificate['num_released']} pseudo-labels")
        for finding, part in certificate["findings"].items():
            say(
                f"  {finding}: {part['num_released']} pseudo-labels, tier {part['certified_tier']}, precision at least "
                f"{part['bound']:.4f} at {part['confidence']:.0%} confidence, valid at every look"
            )
        for finding, why in certificate["not_certified"].items():
            say(f"  {finding} is left out: {why}")
        together(certificate["together"])
        say(f"  certificate: {result['certificate_file']}")
        return
    say(f"{result['out']}: {certificate['num_released']} pseudo-labels, tier {certificate['certified_tier']}")
    say(
        f"  precision at least {certificate['bound']:.4f} at {certificate['confidence']:.0%} confidence, valid at "
        f"every look; release {certificate['number']} of {certificate['num_releases']}"
    )
    say(f"  certificate: {result['certificate_file']}")


def together(result: dict[str, Any]) -> None:
    """What holds of the releases of several findings at once."""
    bounds = ", ".join(f"{finding} {row['bound']:.3f}" for finding, row in result["findings"].items())
    say(
        f"each certificate holds by itself; all {result['num_releases']} at once with {result['confidence']:.0%} "
        f"confidence ({result['method']}) only these precisions: {bounds}"
    )
