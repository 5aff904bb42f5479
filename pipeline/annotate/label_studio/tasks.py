"""Label Studio: the labelling page and the tasks it is given, as version 1.23.2 reads them."""

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pipeline.contracts import finding_line
from pipeline.contracts.answers import CERTAINTIES, REMARKS
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import NONE, are_independent

FINDING, CERTAINTY, IMAGE = "finding", "certainty", "image"  # names of the page's controls, and of JSON-MIN's columns
_CLASS_KEYS, _REMARK_KEYS, _CERTAINTY_KEYS = "123456789", "cbn", "sd"  # Label Studio finds free keys for what is left
_NONE_KEY = "0"
_BELOW, _APART = "margin-top:20px", "font-style:italic;opacity:0.8"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def labelling_config(findings: Sequence[str]) -> str:
    """The page: the scan with its controls, one answer that is required, and how sure, which is not.

    Of independent findings several may be chosen; `?effusion` says that it is unknown whether there is one.

    Raises:
        InputError: when a class holds a character that XML cannot.
    """
    for finding in findings:
        if _NOT_XML.search(finding):
            raise InputError("holds a character that XML cannot", value=finding, where="pool.findings", fix="rename it")
    several = are_independent(findings)
    answers = [_choice(name, key) for name, key in _keyed(findings, _CLASS_KEYS)]
    answers += [_choice(NONE, _NONE_KEY, _BELOW)] if several else []
    answers += _group(REMARKS, _REMARK_KEYS)
    answers += _group([f"?{finding}" for finding in findings], "") if several else []
    sure = [_choice(name, key) for name, key in _keyed(CERTAINTIES, _CERTAINTY_KEYS)]
    return "\n".join(
        [
            '<View style="display:flex;gap:16px">',
            '  <View style="flex:1 1 75%">',
            f'    <Image name="{IMAGE}" value="${IMAGE}" zoom="true" zoomControl="true" brightnessControl="true"'
            ' contrastControl="true"/>',
            '  </View>\n  <View style="flex:1 1 25%">',
            f'    <Choices name="{FINDING}" toName="{IMAGE}" choice="{"multiple" if several else "single"}"'
            ' required="true" requiredMessage="Choose an answer.">',
            *answers,
            "    </Choices>",
            f'    <Choices name="{CERTAINTY}" toName="{IMAGE}" choice="single" layout="inline">',
            *sure,
            "    </Choices>\n  </View>\n</View>\n",
        ]
    )


def local_files_url(path: str) -> str:
    """Where a Label Studio server serves a file of its own disk.

    Args:
        path: Relative to the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, with forward slashes. The project
            needs a local storage on a folder below that root that holds it.
    """
    return "/data/local-files/?d=" + quote(path, errors="surrogateescape")


def tasks(
    rows: Iterable[tuple[str, int]],
    image_url: Callable[[str], str],
    *,
    run: str,
    round_index: int,
    findings: Sequence[str],
    annotator: str | None = None,
    predictions: Mapping[str, tuple[str, float, str]] | None = None,
) -> list[dict[str, Any]]:
    """Tasks to import into a project, in the annotator's order.

    Args:
        rows: image_id and rank.
        image_url: image_id to the address Label Studio shows it from; the one place a folder can be told.
        run: Name of the run.
        round_index: The round that asks.
        findings: The classes.
        annotator: Who is asked. It travels as `asked`: Label Studio's own `annotator` would overwrite that name.
        predictions: image_id to (reply, score 0..1, model version), shown before the answer; None: blind.

    Raises:
        InputError: when a prediction names no class, or its score is none.
    """
    asked = {} if annotator is None else {"asked": annotator}
    built: list[dict[str, Any]] = []
    for image_id, rank in rows:
        data = {IMAGE: image_url(image_id), "image_id": image_id, "rank": rank, "round": round_index, "run": run}
        built.append({"data": data | asked})
        if predictions is not None and image_id in predictions:
            built[-1]["predictions"] = [_prediction(image_id, *predictions[image_id], findings)]
    return built


def task_json(built: Sequence[Mapping[str, Any]]) -> str:
    """The text of a file of tasks."""
    return json.dumps(built, indent=1, allow_nan=False) + "\n"


def _group(names: Sequence[str], keys: str) -> list[str]:
    """Choices set apart from those above."""
    styles = [f"{_BELOW};{_APART}", *[_APART] * (len(names) - 1)]
    return [_choice(name, key, style) for (name, key), style in zip(_keyed(names, keys), styles, strict=True)]


def _keyed(names: Sequence[str], keys: str) -> list[tuple[str, str]]:
    return [(name, keys[i : i + 1]) for i, name in enumerate(names)]


def _choice(name: str, key: str, style: str = "") -> str:
    attributes = {"value": name, "hotkey": key, "style": style}
    if "$" in name:  # the page reads $word as a field of the task's data, but not in what it shows and answers
        attributes |= {"value": name.replace("$", "\uff04"), "alias": name, "html": html.escape(name)}
    return "      <Choice " + " ".join(f"{k}={quoteattr(v)}" for k, v in attributes.items() if v) + "/>"


def _prediction(image_id: str, reply: str, score: float, version: str, findings: Sequence[str]) -> dict[str, Any]:
    chosen = _chosen(reply, findings)
    if not chosen or not 0 <= score <= 1:
        raise InputError(
            "is no prediction of a class with a score from 0 to 1", value=(reply, score), where=f"scan {image_id}"
        )
    result = {"from_name": FINDING, "to_name": IMAGE, "type": "choices", "value": {"choices": chosen}}
    return {"model_version": version, "score": score, "result": [result]}


def _chosen(reply: str, findings: Sequence[str]) -> list[str]:
    """The choices that say a reply; none when it does not tell of every finding, or names no class."""
    if not are_independent(findings):
        return [reply] if reply in findings else []
    line = finding_line.meant(reply, findings)
    values = {} if line is None else finding_line.read(line)
    if not values or any(math.isnan(value) for value in values.values()):
        return []
    return [finding for finding, value in values.items() if value] or [NONE]
