"""Answers of people, as they come in: into the journal, then into the label table."""

from pipeline import labels
from pipeline.annotators import importing
from pipeline.journal import Journal


def say(folder, answers, findings):
    """Add answers to a run as an import does; how many were new."""
    journal = Journal.open(folder)
    with journal.writing():
        fresh, _ = importing.news(answers, journal)
        journal.add(journal.begin("import"), fresh)
    labels.settle(folder, findings)
    return len(fresh)
