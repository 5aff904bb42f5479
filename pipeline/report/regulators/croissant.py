"""The run's tables as a data set in Croissant 1.0, with the fields of its responsible AI extension.

Source: Akhtar et al. 2024, "Croissant: a metadata format for ML-ready datasets"; Croissant RAI specification 1.0. What
a machine cannot know says so in the field itself.
"""

import hashlib
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import LABELS, MANIFEST, Contract
from pipeline.pages.wording import percent, plural
from pipeline.report.cautions import cautions
from pipeline.report.checklists import facts_data, facts_results
from pipeline.report.checklists.fact import Fact
from pipeline.report.counts import counted
from pipeline.report.gather import RunData
from pipeline.runtime import run_files

LEFT = "LEFT TO THE AUTHOR"
_CONFORMS = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
_TERMS = (
    *("citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes"),
    *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
    *("replace", "separator", "source", "subField", "transform"),
)
_PRIVATE = ("uri", "path", "sha256")  # of the manifest: they lead to people's files, and are not described


def text(run: RunData) -> str:
    """The description as JSON-LD; the same run gives the same text."""
    return json.dumps(described(run), ensure_ascii=False, indent=1) + "\n"


def described(run: RunData) -> dict[str, Any]:
    """The description as a JSON-LD object."""
    tables = [contract for contract in (MANIFEST, LABELS) if run_files.path(run.folder, contract.file).is_file()]
    name = run.folder.resolve().name
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS,
        "name": name,
        "description": f"Scans and labels of the cxr-ssl run {name}. Licence, address, creators and date of "
        f"publication: {LEFT}.",
        "isLiveDataset": False,
        "distribution": [_file(run, contract) for contract in tables],
        "recordSet": [_records(contract) for contract in tables],
        **_responsible(run),
    }


def _context() -> dict[str, Any]:
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "sc": "https://schema.org/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        **{term: f"cr:{term}" for term in _TERMS},
    }


def _file(run: RunData, contract: Contract) -> dict[str, Any]:
    with run_files.path(run.folder, contract.file).open("rb") as stream:
        digest, num_bytes = hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()
    return {
        "@type": "cr:FileObject",
        "@id": contract.file,
        "name": contract.file,
        "contentUrl": run_files.href(run.folder, contract.file),
        "encodingFormat": "application/x-parquet",
        "contentSize": f"{num_bytes} B",
        "sha256": digest,
    }


def _records(contract: Contract) -> dict[str, Any]:
    fields = [column for column in contract.schema if column.name not in _PRIVATE]
    return {
        "@type": "cr:RecordSet",
        "@id": contract.name,
        "name": contract.name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{contract.name}/{column.name}",
                "name": column.name,
                "dataType": _kind(column.type),
                "source": {"fileObject": {"@id": contract.file}, "extract": {"column": column.name}},
            }
            for column in fields
        ],
    }


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_integer(type_):
        return "sc:Integer"
    if pa.types.is_floating(type_):
        return "sc:Float"
    return "sc:Date" if pa.types.is_timestamp(type_) else "sc:Text"


def _responsible(run: RunData) -> dict[str, str]:
    """The fields of the responsible AI extension, from the facts that checklists are filled with."""
    fields = {
        "dataCollection": _fact_words(
            facts_data.data_sources(run), "institutions, dates and the purpose of the collection"
        ),
        "dataCollectionMissingData": _fact_words(facts_data.missing(run)),
        "dataPreprocessingProtocol": _fact_words(facts_data.preparation(run)),
        "dataAnnotationProtocol": _fact_words(
            facts_data.reference_standard(run), "by what rule a finding counts as present"
        ),
        "dataAnnotationAnalysis": _fact_words(facts_data.reader_agreement(run), "agreement of the readers"),
        "annotationsPerItem": _annotations(run),
        "annotatorDemographics": _fact_words(facts_data.annotators(run), "training and experience of the readers"),
        "machineAnnotationTools": _machine(run),
        "dataBiases": _fact_words(facts_results.fairness(run), "biases that metadata do not show"),
        "dataLimitations": " ".join(cautions(run)),
        "dataUseCases": f"Research on label-efficient chest X-ray classification, not diagnosis. {LEFT}: other.",
        "dataSocialImpact": f"{LEFT}.",
        "personalSensitiveInformation": _fact_words(facts_data.deidentification(run), "legal basis and consent"),
        "dataReleaseMaintenancePlan": f"{LEFT}.",
    }
    return {f"rai:{name}": value for name, value in fields.items()}


def _fact_words(fact: Fact | None, left: str = "") -> str:
    """What the run shows, and what is left to the author."""
    parts = [] if fact is None else [fact.text]
    if left or fact is None:
        parts.append(f"{LEFT}: {left or 'the run does not say'}.")
    return " ".join(parts)


def _annotations(run: RunData) -> str:
    """How many scans have so many experts' labels."""
    if run.config.get("oracle"):
        return "Labels were looked up in the pool, one for each scan that was asked for."
    labels = _labels(run)
    expert = labels.filter(pc.equal(labels["origin"], "expert"))
    pairs = expert.group_by(["image_id", "annotator"]).aggregate([])
    per_scan = counted(pc.value_counts(pairs["image_id"]).field("counts"))
    words = [f"{plural(num, 'scan')} by {plural(readers, 'reader')}" for readers, num in sorted(per_scan.items())]
    return f"Read: {', '.join(words)}." if words else "No scan has been read yet."


def _machine(run: RunData) -> str:
    labels = _labels(run)
    pseudo = labels.filter(pc.equal(labels["origin"], "pseudo"))
    num = pc.count_distinct(pseudo["image_id"]).as_py()
    if not num:
        return "No label was given by a machine."
    share = percent(num / max(1, pc.count_distinct(labels["image_id"]).as_py()))
    return f"{plural(num, 'scan')} ({share} of those with a label) carry a pseudo-label of the run's own model."


def _labels(run: RunData) -> pa.Table:
    if not run_files.path(run.folder, LABELS.file).is_file():
        return LABELS.schema.empty_table()
    return run_files.read(run.folder, LABELS)
