"""What `cxr-ssl bench` does.

In: pools and options. Out: figures with intervals, as JSON, Markdown and a page.
"""
