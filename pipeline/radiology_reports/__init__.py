"""What radiology reports say of the scans: a third tier of labels, never an expert's and never a certificate.

In: reports beside a pool, a rules file, experts' answers on blind scans. Out: labels by report with the sentence they
rest on, the error of each that was learned, and soft labels to train on where it is small enough.
"""
