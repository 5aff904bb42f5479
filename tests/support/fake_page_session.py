"""A desk that keeps its answers in a file of JSON lines, and can be served as a process of its own.

`python -m tests.support.fake_page_session FOLDER PORT TOKEN [NUM]` prints the link and serves until it is stopped.
"""

import io
import json
import statistics
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

from PIL import Image

from embeddings.decode import DecodeError
from pipeline.annotate.page.backend import PageOptions, Progress, Task
from pipeline.contracts.answers import annotator_name, reply_of
from pipeline.contracts.errors import InputError
from pipeline.pool.phantoms import PhantomSpec, plan, render

FINDINGS = ("normal", "pneumonia", "effusion", "nodule")


def image_id(i):
    return f"{i + 1:016x}"


def draw(folder, num, size_px=128):
    """Pictures of `num` scans; at most 12 differ."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(size_px)
    for i in range(num):
        (folder / f"{image_id(i)}.png").write_bytes(pictures[i % len(pictures)])


@cache
def _pictures(size_px):
    """PNG files of 12 phantoms, drawn once for all tests."""
    spec = PhantomSpec(num_patients=12, size_px=size_px)
    files = []
    for scan in plan(spec)[:12]:
        file = io.BytesIO()
        Image.fromarray(render(scan, spec)).save(file, "PNG")
        files.append(file.getvalue())
    return files


class FakeDesk:
    """Every annotator reads every scan, unless `shared`: then each scan goes to one of them."""

    def __init__(self, folder, num=50, *, findings=FINDINGS, title="Round 2", shared=False, reasons=False, page=None):
        self.findings, self.title, self.page, self.notes = findings, title, page or PageOptions(), {}
        self.folder, self.log, self.shared, self.reasons = folder, folder / "answers.jsonl", shared, reasons
        self.ids = [image_id(i) for i in range(num)]
        self.lock, self.full, self.away = threading.RLock(), False, False
        self.looked = []  # pictures asked for
        self.taken_back = {}  # undo to the reply it took back
        self.keys, self.undone, self.answers, self.reserved = set(), {}, [], {}
        for line in self.log.read_text().splitlines() if self.log.exists() else []:
            self._apply(json.loads(line))

    def enter(self, annotator):
        return annotator_name(annotator)

    def next(self, annotator, num, held):
        with self.lock:
            mine = {a["image_id"] for a in self.answers if self.shared or a["annotator"] == annotator}
            free = [
                i
                for i in self.ids
                if i not in mine and i not in held and (not self.shared or self.reserved.get(i, annotator) == annotator)
            ]
            for i in free[:num]:
                self.reserved[i] = annotator
            return [self._task(i) for i in free[:num]]

    def answer(self, annotator, image_id, reply, certainty, seconds, key):
        if image_id not in self.ids:
            raise InputError("this round does not ask for that scan", value=image_id)
        if reply_of(reply, self.findings) != reply:
            raise InputError("no such answer", value=reply, fix=f"answers are {', '.join(self.findings)}")
        entry = {"annotator": annotator, "image_id": image_id, "reply": reply, "certainty": certainty}
        self._keep(entry | {"seconds": seconds, "key": key})

    def undo(self, annotator, key, of=None):
        with self.lock:
            mine = [a for a in self.answers if a["annotator"] == annotator and of in (None, a["key"])]
            if key not in self.keys and mine:
                undone = {"undo": mine[-1]["key"], "image_id": mine[-1]["image_id"], "reply": mine[-1]["reply"]}
                self._keep({"annotator": annotator, "key": key} | undone)
            if key not in self.undone:
                return None
            return replace(self._task(self.undone[key]), reply=self.taken_back[key])

    def progress(self, annotator):
        with self.lock:
            seconds = [a["seconds"] for a in self.answers if a["annotator"] == annotator and a["seconds"] is not None]
            done = sum(a["annotator"] == annotator for a in self.answers)
            answered = {a["image_id"] for a in self.answers}
            left = len(self.ids) - (len(answered) if self.shared else done)
            pace = statistics.median(seconds) if seconds else None
            return Progress(done, left, len(answered), len(self.ids), pace)

    def own_answers(self, annotator):
        with self.lock:
            mine = {a["image_id"]: a for a in self.answers if a["annotator"] == annotator}
            tasks = [replace(self._task(i), reply=a["reply"], certainty=a["certainty"]) for i, a in mine.items()]
            return [replace(task, note=self.notes.get((task.image_id, annotator))) for task in tasks][::-1]

    def note(self, annotator, image_id, note):
        if self.full:
            raise OSError(28, "No space left on device", "/secret/place/notes.jsonl")
        self.notes[image_id, annotator] = note

    def example(self, definition, number):
        return self.folder / "images" / f"{image_id(number)}.png"

    def priors(self, annotator, image_id):
        at = self.ids.index(image_id)
        return self.ids[at - 2 : at] if at % 3 == 2 else []

    def is_deep(self, image_id):
        path = self.folder / "images" / f"{image_id}.png"
        return path.exists() and path.read_bytes()[24] == 16

    def picture(self, image_id):
        self.looked.append(image_id)
        if self.away:
            raise OSError(5, "Input/output error", "/secret/place/scan.png")
        path = self.folder / "images" / f"{image_id}.png"
        if image_id in self.ids and not path.exists():
            raise DecodeError(f"the file is missing: {path}")
        return path if image_id in self.ids else None

    def _task(self, image_id):
        at = self.ids.index(image_id)
        return Task(image_id, at + 1, len(self.priors("", image_id)), "Uniform slice" if self.reasons else None)

    def _keep(self, entry):
        with self.lock:
            if entry["key"] in self.keys:
                before = next((a for a in self.answers if a["key"] == entry["key"]), entry)
                if any(before[name] != entry[name] for name in ("image_id", "annotator", "reply") if name in entry):
                    raise InputError("this answer was given before, and said something else", value=entry["reply"])
                return
            if self.full:
                raise OSError(28, "No space left on device", "/secret/place/answers.jsonl")
            with self.log.open("a") as stream:
                stream.write(json.dumps(entry) + "\n")
            self._apply(entry)

    def _apply(self, entry):
        self.keys.add(entry["key"])
        if "undo" in entry:
            self.undone[entry["key"]] = entry["image_id"]
            self.taken_back[entry["key"]] = entry["reply"]
            self.answers = [a for a in self.answers if a["key"] != entry["undo"]]
        else:
            self.answers.append(entry)


if __name__ == "__main__":
    from pipeline.annotate.page.server import serve

    place, where, secret, *rest = sys.argv[1:]
    many = int(rest[0]) if rest else 50
    serve(
        FakeDesk(Path(place), many, reasons="reasons" in rest),
        port=int(where),
        token=secret,
        name="test",
        ready=lambda link: (sys.stdout.write(link + "\n"), sys.stdout.flush()),
    )
