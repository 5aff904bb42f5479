"""The page toolkit: templates, wording of numbers, thumbnails, charts as SVG.

In: numbers and scans. Out: pieces of HTML.
"""
