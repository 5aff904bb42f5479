"""What predict, monitor and export print in the end."""

from typing import Any

from pipeline.cli.printed.console import say

MAX_ANSWERS = 8  # of a prediction that are counted on the screen


def predicted(result: dict[str, Any]) -> None:
    """What the predictions have come to."""
    say(
        f"{result['out']}: {result['num_scans']} scans, by the model of round {result['round']} ({result['seconds']} s)"
    )
    for answer, num in list(result["answers"].items())[:MAX_ANSWERS]:
        say(f"  {num:>8}  {answer}")
    if result["outside_measured_on"] is None:
        say("  whether a scan is outside what the model knows cannot be said: too few held-out scans for that rate")
    else:
        say(f"  {result['num_outside']:>8}  outside what the model knows")
    say(f"  {result['num_unusable']:>8}  unusable")
    for side, num in result["num_in_run"].items():
        say(f"  {num:>8}  are files of the run itself ({side})")
    if result["heat_maps"] is not None:
        say(f"{result['heat_maps']['out']}: heat maps of {', '.join(result['heat_maps']['findings'])}")
    if result["dicom"] is not None:
        say(f"{result['dicom']}: structured reports, not for diagnostic use")


def watched(result: dict[str, Any]) -> None:
    """What a watcher has done until it was stopped."""
    say(f"{result['out']}: {result['num_predicted']} scans predicted, {result['num_quarantined']} in quarantine")


def monitored(result: dict[str, Any]) -> None:
    """What has moved, and what it comes to."""
    batch = result["batch"]
    say(f"{result['verdict']}: {result['why']} ({batch['num_compared']} scans of {batch['num_patients']} patients)")
    if result["cause"] is not None:
        say(f"  most probable cause: {result['cause']['name']}. {result['cause']['words']}")
        say(f"  what to do: {result['cause']['fix']}")
    if result["next"]:
        say(f"  to learn from these scans: {result['next']}")
    for name, estimate in result["accuracy"].items():
        of = "of the answers" if name == "answer" else f"of {name}"
        if estimate["value"] is None:
            say(f"  accuracy {of} is not estimated: {estimate['refused']}")
        else:
            say(
                f"  accuracy {of}, estimated: {estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
            )
    for line in result["cannot_tell"]:
        say(f"  cannot be told: {line}")
    say(f"  batch {result['num_batches']}: {result['page']}")


def exported(result: dict[str, Any]) -> None:
    """The model that was written, and how it was checked."""
    for part in result.get("findings", {}).values():
        exported(part)
    if "findings" in result:
        return
    check = result["check"]
    say(f"{result['out']}: round {result['round']}, from scan to probability")
    say(
        f"  largest difference of a probability on {check['num_scans']} scans: ONNX against torch "
        f"{check['onnx_against_torch']:.1e}, ONNX against the run {check['onnx_against_run']:.1e}"
    )
