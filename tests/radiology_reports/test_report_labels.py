"""From the reports of scans to their labels."""

from collections import Counter

from pipeline.radiology_reports import report_labels
from pipeline.radiology_reports.rules import load


def test_a_report_of_which_no_section_is_read_is_counted_and_mentions_nothing():
    reasons, names = Counter(), {"effusion": "pleural effusion"}
    of_scan = {"a.png": ["INDICATION: effusion?"], "b.png": ["INDICATION: effusion?", "Effusion."]}
    labels = report_labels._by_rules(of_scan, load("en"), names, reasons)
    assert {path: said["effusion"].says for path, said in labels.items()} == {"b.png": "present"}
    assert reasons == {report_labels.NOTHING_READ: 1}
