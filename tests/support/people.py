"""Answers of people, as they come in: into the journal, then into the label table."""

from pipeline.annotate import import_files
from pipeline.labels import label_table
from pipeline.labels.journal import Journal


def say(folder, answers, findings):
    """Add answers to a run as an import does; how many were new."""
    journal = Journal.open(folder)
    with journal.writing():
        fresh, _ = import_files.news(answers, journal)
        journal.add(journal.begin("import"), fresh)
    label_table.settle(folder, findings)
    return len(fresh)
