"""A queue as one ZIP file that opens without a server: a page, its pictures, a table, and how to send labels back."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.annotate.page.backend import PageOptions, Task
from pipeline.annotate.page.markup import texts
from pipeline.annotate.page.offline import offline_html
from pipeline.annotate.queue_csv import Origin, Row, write_csv
from pipeline.contracts.tables import write_bytes
from pipeline.runtime import run_files

EPOCH = (1980, 1, 1, 0, 0, 0)  # the same scans give the same bytes
README = """Label these {num} chest X-rays (run {run}, round {round}).

1. Unpack the whole folder and open index.html in a browser. Nothing is sent anywhere.
2. Answer by keyboard or mouse; ? shows the keys. You may stop and go on later in the same browser.
3. Press "Save answers" and send the file answers.csv back. (Or fill the column label of queue.csv and send that.)

They come in with: cxr-ssl labels import RUN answers.csv{who}
"""


def write_bundle(
    path: Path,
    rows: Sequence[Row],
    pictures: Path,
    findings: Sequence[str],
    origin: Origin,
    page: PageOptions = PageOptions(),  # noqa: B008 - frozen
) -> None:
    """Write the bundle; the same scans give the same bytes.

    Args:
        path: The ZIP file.
        rows: Scans in the annotator's order.
        pictures: Folder of `IMAGE_ID.png`.
        findings: Classes an answer may name.
        origin: Whose it is, and what asks.
        page: How its page looks and speaks.
    """
    inside = [row._replace(file=f"images/{row.image_id}.png") for row in rows]
    tasks = [Task(row.image_id, row.rank) for row in rows]
    title = texts(page.language)["round"].format(n=origin.round_index)
    who = "" if origin.annotator else " --annotator NAME"
    files = {
        "index.html": offline_html(tasks, findings, title=title, page=page, **origin._asdict()),
        run_files.QUEUE_TABLE: write_csv(inside, findings, origin),
        "README.txt": README.format(num=len(rows), run=origin.run, round=origin.round_index, who=who),
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name, text in files.items():
            bundle.writestr(zipfile.ZipInfo(name, EPOCH), text.encode(), zipfile.ZIP_DEFLATED)
        for row in inside:
            png = (pictures / f"{row.image_id}.png").read_bytes()
            bundle.writestr(zipfile.ZipInfo(row.file, EPOCH), png, zipfile.ZIP_STORED)
    write_bytes(path, stream.getvalue())
