"""The result as a person reads it: tables on a terminal, and with every figure as Markdown."""

from collections.abc import Callable
from typing import Any

from pipeline.baselines.scoring import OF_A_CLASS

SENTENCE = (
    "These figures prove nothing about COVID: its scans come from one collection, of adults, and the others from one "
    "children's hospital, so whatever tells the two places apart scores as well as a diagnosis."
)
ROWS = {
    "convnet": "plain ConvNet, {convnet} px",
    "vgg16": "VGG16, frozen",
    "frozen": "{net}, frozen",
    "full": "{net}, fine-tuned, all of it",
    "partial": "{net}, fine-tuned, last stages",
    "no-lungs": "lungs erased: {net}, frozen",
    "six-numbers": "no picture: its size, three grey values",
    "three-numbers": "no picture: three grey values",
}
THREE = (
    ("accuracy", "accuracy"),
    ("sensitivity_covid", "COVID: sens."),
    ("specificity_covid", "spec."),
    ("auroc_covid", "AUROC"),
    ("sensitivity_normal", "normal: sens."),
    ("sensitivity_viral_pneumonia", "viral: sens."),
)
TWO = (("accuracy", "accuracy"), ("sensitivity_covid", "COVID: sens."), ("specificity_covid", "spec."))
PLAIN_WIDTH = 130  # where the output is no terminal

Table = tuple[str, list[str], list[list[str]]]


def show(result: dict[str, Any]) -> None:
    """Print it on standard output: the sentence, the figures, the verdict on what they were measured on."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    console.print(SENTENCE, style="bold")
    for title, header, rows in _tables(result, _short):
        grid = Grid(*header, title=f"\n{title}", title_justify="left", box=box.SIMPLE)
        for row in rows:
            grid.add_row(*row)
        console.print(grid)
    audit = result["audit"]
    console.print(f"verdict of the audit on these very scans: {audit['verdict']}", style="bold")
    for line in (*_audit_lines(audit, ("blocks",)), "", *_notes(result)):
        console.print(line, highlight=False, markup=False)
    places = [result["out"] and f"{result['out']}/reference.md", result["out"] and audit["report"]]
    for place in filter(None, places):
        console.print(f"report: {place}", highlight=False, soft_wrap=True)


def markdown(result: dict[str, Any]) -> str:
    """The same with spreads, every class's figures and the audit's warnings."""
    audit = result["audit"]
    lines = ["# Baselines a reader knows, on a set a reader knows", "", f"**{SENTENCE}**", "", f"`{_command(result)}`"]
    for title, header, rows in (*_tables(result, _long), _per_class(result)):
        lines += ["", f"## {title}", "", _line(header), _line(["---"] * len(header)), *[_line(row) for row in rows]]
    lines += ["", f"## The audit of these very scans: {audit['verdict']}", ""]
    lines += [f"- {line}" for line in _audit_lines(audit, ("blocks", "warns"))]
    lines += ["", "## How", "", *[f"- {line}" for line in (*_notes(result), *_recipes(result))]]
    lines += ["", _made(result)]
    return "\n".join(lines) + "\n"


def _tables(result: dict[str, Any], write: Callable[[dict[str, Any]], str]) -> list[Table]:
    small, verdict = result["small"], f"audit: {result['audit']['verdict']}"
    three = [
        [_name(row, result), _long(row["accuracy"]), *[write(row[name]) for name, _ in THREE[1:]]]
        for row in result["rows"]
    ]
    two = [
        [
            _name(row, result),
            _long(row["ten"]["accuracy"]),
            *[write(row["ten"][name]) for name, _ in TWO[1:]],
            write(row["others"]["accuracy"]),
        ]
        for row in small["rows"]
    ]
    num, ten = result["num_test_a_class"], 2 * small["num_test_a_class"]
    return [
        (
            f"Three classes, {num} test scans of each, {_draws(result['num_seeds'])}; {verdict}",
            ["", *[text for _, text in THREE]],
            three + [[*_quoted(figure), "–", "–", "–"] for figure in result["published"]],
        ),
        (
            f"25 COVID and 25 normal scans, {ten} of the 50 to test, {_draws(small['num_draws'])}; {verdict}",
            ["", *[text for _, text in TWO], "accuracy, all other scans"],
            two + [[*_quoted(figure), "–"] for figure in result["small_published"]],
        ),
    ]


def _per_class(result: dict[str, Any]) -> Table:
    rows = [
        [_name(row, result), finding, *[_long(row[f"{name}_{finding}"]) for name in OF_A_CLASS]]
        for row in result["rows"]
        for finding in result["findings"]
    ]
    return "Every class against the rest", ["", "class", "sensitivity", "specificity", "AUROC"], rows


def _quoted(figure: dict[str, Any]) -> list[str]:
    """A published figure as the first cells of a row."""
    values = [figure[name] for name in ("accuracy", "sensitivity", "specificity")]
    return [f"quoted: {figure['model']}", *["–" if value is None else f"{value:.3f}" for value in values]]


def _audit_lines(audit: dict[str, Any], kinds: tuple[str, ...]) -> list[str]:
    return [f"{kind}: {check['id']}: {check['message']}" for kind in kinds for check in audit[kind]]


def _notes(result: dict[str, Any]) -> list[str]:
    parts = "; ".join(
        f"{row['finding']} {row['num_scans']} scans of {row['num_groups']} patients from {', '.join(row['sources'])}"
        for row in result["set"]
    )
    size, quoted = result["size_px"], [*result["published"], *result["small_published"]]
    notes = [
        f"The set: {parts}. No patient and no copy of a picture is in two of training, stopping and test.",
        "Brackets: 95 % interval of the mean over the draws, patients redrawn. ±: standard deviation of one draw "
        "(its split and its training).",
        f"Frozen: ImageNet transfer, a new head on embeddings at {size['frozen']} px. Fine-tuned at {size['full']} px. "
        "All learn with class weights; the networks keep their best epoch on other patients' scans.",
        "No picture: width, height, aspect, mean grey, contrast and border grey of the file; the row of three goes "
        "without the first three, which betray whoever resized the copies by origin.",
        "Lungs erased: the outline of what is erased follows the lungs, so this row is not pure background.",
        *[f"Quoted, {origin['model']}: {origin['measured_on']}; {origin['standing']}." for origin in quoted],
    ]
    if result["vgg16"] is None:
        notes.append(
            f"VGG16 is left out, {result['net']} stands in: its weights are not here. Give --vgg16 FILE with "
            "torchvision's vgg16-397923af.pth (ImageNet), or put it in torch's cache (hub/checkpoints)."
        )
    return notes


def _recipes(result: dict[str, Any]) -> list[str]:
    """How each network was trained, in the words of the configuration."""
    return [
        f"`{name}`: " + ", ".join(f"{option} {value}" for option, value in recipe.items())
        for name, recipe in result["recipes"].items()
    ]


def _made(result: dict[str, Any]) -> str:
    env = result["environment"]
    versions = ", ".join(f"{key} {env[key]}" for key in ("python", "torch", "timm", "onnxruntime") if key in env)
    return f"{result['date']}; {env['cpus']} CPUs; {versions}."


def _name(row: dict[str, Any], result: dict[str, Any]) -> str:
    return ROWS[row["key"]].format(net=result["net"], convnet=result["size_px"]["convnet"])


def _draws(num: int) -> str:
    return f"{num} draw" if num == 1 else f"{num} draws"


def _command(result: dict[str, Any]) -> str:
    pools = "--covid covid3/manifest.csv --kermany kermany/manifest.csv"
    return f"cxr-ssl bench reference {pools} --seeds {result['num_seeds']} --out FOLDER"


def _short(figure: dict[str, Any]) -> str:
    """`0.958`."""
    return "–" if figure["value"] is None else f"{figure['value']:.3f}"


def _long(figure: dict[str, Any]) -> str:
    """`0.958 (0.907 to 0.982) ± 0.012`."""
    if figure["value"] is None:
        return "–"
    text = f"{figure['value']:.3f}"
    if figure["ci95"] is not None:
        text += f" ({figure['ci95'][0]:.3f} to {figure['ci95'][1]:.3f})"
    return text + (f" ± {figure['sd']:.3f}" if figure["sd"] is not None else "")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
