"""A run's queue as annotators work through it at the page: what is next, what was said, what is taken back.

Every answer goes to the journal, on disk, before the annotator hears that it is saved. Scans on somebody's screen are
reserved for a while, so that annotators who work at once do not read the same scan by accident.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from pipeline.annotate import answer_choices, assignments, worklist
from pipeline.annotate.guide import Guide
from pipeline.annotate.label_sync import Settler
from pipeline.annotate.page.backend import Progress, Task
from pipeline.annotate.page.markup import texts
from pipeline.annotate.page.reservations import Reservations
from pipeline.annotate.pictures import deep_scans, spacing_of, uris_and_priors, write_picture
from pipeline.annotate.scan_notes import Note, ScanNotes
from pipeline.annotate.worklist import Ask
from pipeline.contracts.answers import ADJUDICATOR, CERTAINTIES, Answer, annotator_name, reply_of
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.labels import label_table
from pipeline.labels.journal import Batch, Journal, now
from pipeline.runtime import run_files

RECENT = 50  # answers her pace is measured on
REASONS = {
    "representative": "stands for cluster {cluster}, which no label speaks for yet",
    "uniform": "drawn at random from the whole pool",
    "dispute": "readers disagree on it",
}  # any other kind would tell her what the model said, or that she read it before


@dataclass
class Sitting:
    """One annotator at work on a round: her order, what she has answered in it, what she may be asked again."""

    asks: list[Ask]
    rereads: list[str]
    done: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def hear(self, answer: Answer, round_index: int) -> None:
        """Count one of her answers."""
        if answer.round_index == round_index and answer.image_id not in self.done:
            self.done.append(answer.image_id)
        if answer.seconds is not None:
            self.seconds.append(answer.seconds)

    def due_reread(self, held: Sequence[str], num_due: Callable[[int], int]) -> str | None:
        """One of her earlier answers to ask again, when enough new scans lie behind her; `num_due` of a number."""
        seen = {*self.done, *held}
        again = seen & set(self.rereads)
        if num_due(len(seen - again)) <= len(again):
            return None
        return next((image_id for image_id in self.rereads if image_id not in seen), None)

    def num_rereads_left(self, num_fresh_left: int, num_due: Callable[[int], int]) -> int:
        """How many of them still lie before her last new scan: they count as any other, so that none stands out."""
        again = set(self.done) & set(self.rereads)
        if num_fresh_left == 0:
            return 0
        due = num_due(len(set(self.done) - again) + num_fresh_left - 1)
        return max(0, min(due, len(self.rereads)) - len(again))


class Desk:
    """One run's latest queue; safe to be used by many threads, and beside a run that computes.

    Args:
        folder: Run directory.
        config: The run's configuration.
        findings: Classes an answer may name.
        blind: Whether annotators are kept from learning why a scan was chosen.
        adjudicators: Who decides where two readers differ (`queue.design`); they read nothing else.

    Raises:
        RunDirError: when the run has no queue yet.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        findings: tuple[str, ...],
        *,
        blind: bool = True,
        adjudicators: Collection[str] = (),
    ) -> None:
        self.folder, self.config, self.findings, self.blind = folder, config, findings, blind
        self.adjudicators = {name.casefold() for name in adjudicators}
        self._lock = threading.RLock()
        self._journal = Journal.open(folder)
        self._on_screen = Reservations(folder / run_files.ON_SCREEN)
        self._batches: dict[str, Batch] = {}
        self._notes = ScanNotes(folder)
        self._open_round(self._latest())
        self._guide = Guide(folder, config, findings, self._asked)
        self.page = self._guide.options
        self._settler = Settler(folder, findings)

    @property
    def title(self) -> str:
        """What is asked now."""
        return texts(self.config.annotate.language)["round"].format(n=self._list.round_index)

    def enter(self, annotator: str) -> str:
        """The annotator's name as it is kept.

        Raises:
            InputError: when it is no name.
        """
        with self._lock:
            self._catch_up()
            return self._journal.spelling(annotator_name(annotator, "name"))

    def next(self, annotator: str, num: int, held: Sequence[str]) -> list[Task]:
        """Up to `num` scans to read, reserved for her; `held` are on her screen, or answered and not yet sent."""
        with self._lock:
            self._catch_up()
            sitting = self._sitting(annotator)
            chosen: list[str] = []
            num_due = self._num_due(annotator)
            for ask in self._available(sitting, annotator, held):
                again = sitting.due_reread([*held, *chosen], num_due)
                chosen += [image_id for image_id in (again, ask.image_id) if image_id is not None]
                if len(chosen) >= num:
                    break
            self._on_screen.hold([*held, *chosen[:num]], annotator)
            ahead = len(sitting.done) + len(set(held) - set(sitting.done))
            return [self._task(image_id, ahead + i, annotator) for i, image_id in enumerate(chosen[:num], start=1)]

    def answer(
        self, annotator: str, image_id: str, reply: str, certainty: str | None, seconds: float | None, key: str
    ) -> None:
        """Keep an answer, on disk; one of a known key changes nothing.

        Raises:
            InputError: for a scan nobody asked for, or an answer that is none.
            OSError: when it could not be saved.
        """
        meant = reply_of(reply, self.findings)
        if meant is None or certainty not in (None, *CERTAINTIES):
            offered = ", ".join(answer_choices.offered(self.findings))
            raise InputError(
                "is no answer", value=f"{reply[:80]} {certainty or ''}".strip(), fix=f"choose of {offered}"
            )
        with self._lock, self._journal.writing():
            self._catch_up()
            if key in self._journal.entries:
                self._refuse_other(self._journal.entries[key].answer, annotator, image_id, meant)
                return
            round_index = self._round_of(annotator, image_id)
            signed = self._list.signed(image_id, annotator, adjudicates=self._adjudicates(annotator))
            answer = Answer(image_id, meant, signed, round_index, now(), certainty, seconds, key)
            batch = self._batch(annotator)
            self._journal.add(batch, [answer])
            self._batches[annotator] = batch  # not before it is written: others may begin one of the same number
            self._catch_up()
        self._settler.wake()

    def undo(self, annotator: str, key: str, of: str | None = None) -> Task | None:
        """Take back an answer of hers; a repeated request (same key) undoes once.

        Args:
            annotator: Who.
            key: Names this request.
            of: Key of the answer; None: her latest of this round that she gave at the page.

        Returns:
            The scan that is open again; None when there is nothing to take back.
        """
        with self._lock, self._journal.writing():
            self._catch_up()
            known = self._journal.requests.get(key) or self._to_take_back(annotator, of)
            if known is None:
                return None
            if known not in self._journal.retracted:
                self._journal.retract(known, key)
                self._open_round(self._list.round_index)
                self._settler.wake()
            before = self._journal.entries[known].answer
            self._on_screen.hold([before.image_id], annotator)
            return replace(
                self._task(before.image_id, len(self._sitting(annotator).done) + 1, annotator), reply=before.reply
            )

    def _to_take_back(self, annotator: str, of: str | None) -> str | None:
        own_entries = [entry for entry in self._journal.entries.values() if self._is_hers(entry.answer, annotator)]
        if of is not None:
            return next((entry.key for entry in own_entries if entry.key == of), None)
        at_page = [
            entry.key
            for entry in own_entries
            if self._journal.stands(entry)
            and entry.answer.round_index == self._list.round_index
            and self._journal.batches[entry.batch].kind == "page"
        ]
        return at_page[-1] if at_page else None

    def progress(self, annotator: str) -> Progress:
        """How far she and the team are with this round's queue."""
        with self._lock:
            self._catch_up()
            sitting = self._sitting(annotator)
            recent = sitting.seconds[-RECENT:]
            fresh = sum(self._is_open(ask, annotator) for ask in sitting.asks)
            return Progress(
                done=len(sitting.done),
                left=fresh + sitting.num_rereads_left(fresh, self._num_due(annotator)),
                team_done=len(self._list.asks) - len(self._list.open()),
                team_total=len(self._list.asks),
                seconds_per_scan=round(median(recent), 1) if recent else None,
            )

    def own_answers(self, annotator: str) -> list[Task]:
        """Her answers of this round that stand, the latest first, each with what she said."""
        with self._lock:
            self._catch_up()
            latest: dict[str, Answer] = {}
            for entry in self._journal.active():
                if self._is_hers(entry.answer, annotator) and entry.answer.round_index == self._list.round_index:
                    latest.pop(entry.answer.image_id, None)
                    latest[entry.answer.image_id] = entry.answer
            place = {image_id: n for n, image_id in enumerate(self._sitting(annotator).done, start=1)}
            tasks = [
                replace(self._task(i, place[i], annotator), reply=answer.reply, certainty=answer.certainty)
                for i, answer in latest.items()
            ]
            return tasks[::-1]

    def note(self, annotator: str, image_id: str, note: Note) -> None:
        """Keep a note of hers on a scan, on disk.

        Raises:
            InputError: for a scan nobody asked for.
            OSError: when it could not be saved.
        """
        with self._lock:
            self._catch_up()
            round_index = self._round_of(annotator, image_id)
        self._notes.keep(image_id, annotator, round_index, note)

    def example(self, definition: int, number: int) -> Path | None:
        """The PNG of an example of a definition; None where there is none."""
        return self._guide.example(definition, number)

    def priors(self, annotator: str, image_id: str) -> list[str]:
        """Other scans of the patient of a scan that was asked for; any annotator may see them."""
        with self._lock:
            return list(self._priors.get(image_id, ()))

    def is_deep(self, image_id: str) -> bool:
        """Whether a scan's picture has 16 bits a grey value."""
        with self._lock:
            return image_id in self._deep and image_id in self._uris

    def picture(self, image_id: str) -> Path | None:
        """The PNG of a scan that was asked for, or of a prior of one; None for any other."""
        with self._lock:
            asked, uri = self._asked.get(image_id), self._uris.get(image_id)
        if uri is None:
            return None
        folder = "priors" if asked is None else f"{run_files.round_name(asked)}/{run_files.PICTURES}"
        is_deep = self.is_deep(image_id)
        path = self.folder / folder / (f"{image_id}-16.png" if is_deep else f"{image_id}.png")
        write_picture(path, uri, self.config.pool.max_pixels, full_depth=is_deep)
        return path

    def close(self) -> None:
        """Stop, with every answer in the label table unless a run is at work, which takes them itself."""
        self._settler.close()

    def _latest(self) -> int:
        round_index = run_files.latest_round(self.folder)
        if round_index is None:
            raise RunDirError(
                "has no queue yet", where=self.folder, fix=f"draw one first: cxr-ssl run --out {self.folder} --resume"
            )
        return round_index

    def _open_round(self, round_index: int) -> None:
        answers = [entry.answer for entry in self._journal.active()]
        self._asked = run_files.asked(self.folder)
        of_pool = label_table.answers_of_pool(self.folder, self._asked, round_index)
        self._list = worklist.open_worklist(self.folder, round_index, [*of_pool, *answers])
        self._assigned = assignments.holders(self.folder, round_index)
        self._uris, self._priors = uris_and_priors(self.folder, set(self._asked))
        self._deep, self._spacing = deep_scans(self.folder), spacing_of(self.folder, self._uris)
        self._sittings: dict[str, Sitting] = {}
        self._num_heard, self._num_gone = len(self._journal.entries), self._gone()

    def _catch_up(self) -> None:
        """Take in what was said since the last look, here or by another process, and a new queue."""
        self._journal.refresh()
        if len(self._journal.entries) > self._num_heard:
            for entry in list(self._journal.entries.values())[self._num_heard :]:
                self._hear(entry.answer)
            self._num_heard = len(self._journal.entries)
        latest = self._latest()
        if latest != self._list.round_index or self._num_gone != self._gone():
            self._open_round(latest)

    def _gone(self) -> int:
        return len(self._journal.undone) + len(self._journal.retracted)

    def _hear(self, answer: Answer) -> None:
        self._list.hear(answer)
        if answer.person in self._sittings and self._is_hers(answer, answer.person):
            self._sittings[answer.person].hear(answer, self._list.round_index)

    def _sitting(self, annotator: str) -> Sitting:
        if annotator not in self._sittings:
            answers = [e.answer for e in self._journal.active() if self._is_hers(e.answer, annotator)]
            again = worklist.rereads(self.folder, answers, annotator, self._list.round_index)
            sitting = Sitting(sorted(self._list.asks, key=lambda ask: self._turn(ask, annotator)), again)
            for answer in answers:
                sitting.hear(answer, self._list.round_index)
            self._sittings[annotator] = sitting
        return self._sittings[annotator]

    def _turn(self, ask: Ask, annotator: str) -> tuple[object, ...]:
        """Sort key: what was handed out to her in files, then what to nobody, then what to others."""
        holders = self._assigned.get(ask.image_id, set())
        return 0 if annotator in holders else 2 if holders else 1, *worklist.turn(ask, annotator)

    def _num_due(self, annotator: str) -> Callable[[int], int]:
        """Re-reads due after a number of new scans."""
        share, round_index = self.config.queue.reread_share, self._list.round_index
        return lambda num_fresh: worklist.num_rereads(annotator, round_index, num_fresh, share)

    def _batch(self, annotator: str) -> Batch:
        """Her batch of this sitting; a new one when it was undone. While `writing`."""
        batch = self._batches.get(annotator)
        if batch is None or batch.name in self._journal.undone:
            return self._journal.begin("page", blind=self.blind)
        return batch

    def _adjudicates(self, annotator: str) -> bool:
        return annotator.casefold() in self.adjudicators

    def _is_hers(self, answer: Answer, annotator: str) -> bool:
        """Whether an answer is hers, in the role in which she sits here: who decides has another list than readers."""
        return answer.person == annotator and (answer.role == ADJUDICATOR) == self._adjudicates(annotator)

    def _is_open(self, ask: Ask, annotator: str) -> bool:
        """Whether a scan lacks what she can give: a reading, or a decision."""
        return (self._list.awaits if self._adjudicates(annotator) else self._list.lacks)(ask, annotator)

    def _available(self, sitting: Sitting, annotator: str, held: Sequence[str]) -> list[Ask]:
        """What she can read now: not on her screen, and not on so many others' that nothing is left of it."""
        available = []
        for ask in sitting.asks:
            if ask.image_id not in held and self._is_open(ask, annotator):
                done = {annotator, *self._list.readers.get(ask.image_id, ())}
                elsewhere = [who for who in self._on_screen.holders(ask.image_id) if who not in done]
                if self._list.missing(ask) > len(elsewhere):
                    available.append(ask)
        return available

    def _task(self, image_id: str, number: int, annotator: str) -> Task:
        ask = self._list.by_id.get(image_id)
        reason = None if self.blind or ask is None else REASONS.get(ask.kind)
        return Task(
            image_id=image_id,
            number=number,
            num_priors=len(self._priors.get(image_id, ())),
            reason=None if reason is None or ask is None else reason.format(cluster=ask.cluster),
            spacing_mm=self._spacing.get(image_id),
            note=self._notes.of(image_id, annotator),
            differing=tuple(self._list.disputed(ask)) if ask is not None and self._adjudicates(annotator) else (),
        )

    @staticmethod
    def _refuse_other(known: Answer, annotator: str, image_id: str, reply: str) -> None:
        if (known.person, known.image_id, known.reply) != (annotator, image_id, reply):
            raise InputError("another answer came under this key before", fix="reload the page and answer again")

    def _round_of(self, annotator: str, image_id: str) -> int:
        """The round an answer of hers belongs to.

        Raises:
            InputError: when no round asked for the scan.
        """
        first = self._asked.get(image_id)
        if first is None:
            raise InputError("nobody asked for this scan", value=image_id[:40], fix="reload the page")
        again = image_id in self._list.by_id or image_id in self._sitting(annotator).rereads
        return self._list.round_index if again else first
