"""From the reports of scans to their labels."""

from collections import Counter

from pipeline.radiology_reports import report_labels, texts
from pipeline.radiology_reports.rules import load


def test_a_report_of_which_no_section_is_read_is_counted_and_mentions_nothing():
    reasons, names = Counter(), {"effusion": "pleural effusion"}
    of_scan = {"a.png": ["INDICATION: effusion?"], "b.png": ["INDICATION: effusion?", "Effusion."]}
    labels = report_labels._by_rules(of_scan, load("en"), names, reasons)
    assert {path: said["effusion"].says for path, said in labels.items()} == {"b.png": "present"}
    assert reasons == {report_labels.NOTHING_READ: 1}


def read_of(pool, unmatched, **reasons):
    """Ten reports of one folder, three of them empty."""
    counted = Counter({texts.NO_SCAN: len(unmatched), texts.EMPTY: 3, **reasons})
    place = {"reports": set(unmatched)}
    source = (pool, "rules en")
    return report_labels.ReportLabels(
        {}, num_reports=10, reasons=counted, read_from=frozenset({source}), unmatched=place
    )


def test_one_folder_of_reports_for_several_pools_counts_each_report_and_reason_once():
    labels = read_of("own", {1, 2, 3}, misread=1)
    labels.take(read_of("more", {1, 2, 3, 4, 5, 6, 7}, misread=2))
    labels.take(read_of("third", {2, 3, 4, 5, 6, 7}))
    once = {texts.NO_SCAN: 2, texts.EMPTY: 3, "misread": 3}
    assert labels.num_reports == 10 and labels.reasons == once
    labels.take(read_of("more", {1, 2, 3, 4, 5, 6, 7}, misread=2))  # its folder has grown, and joined again
    assert labels.num_reports == 10 and labels.reasons == once
