"""From scans to vectors; knows nothing of labels."""
