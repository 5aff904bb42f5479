"""What a pool's own words mean: blanks, views, sexes, ages, split names; one call per distinct value."""

import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.pool.dicom.words import age_years, view
from pipeline.tables.notes import Notes
from pipeline.tables.placeholders import is_placeholder

VALIDATION_NAMES = frozenset(
    {"val", "valid", "validation", "validate", "validating", "dev", "devel", "development", "tune", "tuning"}
)
TRAIN_NAMES = frozenset({"train", "training"}) | VALIDATION_NAMES
HOLDOUT_NAMES = frozenset(
    {"test", "testing", "holdout", "hold-out", "hold_out", "hold out", "heldout", "held-out", "held_out", "held out"}
)
SPLIT_NAMES = TRAIN_NAMES | HOLDOUT_NAMES

# Other words for the sides, without number and without `set` behind them; in a name of its own each means nothing else.
_OTHER_SPLIT_NAMES = {
    **dict.fromkeys(("tr", "trn", "entrenamiento", "treino", "entrainement", "entraînement", "apprentissage"), "train"),
    **dict.fromkeys(("te", "tst", "prueba", "teste"), "test"),
    **dict.fromkeys(("vl", "validierung", "validacion", "validación", "validacao", "validação"), "val"),
}
_BEHIND_A_SPLIT = re.compile(r"[\s_-]*(?:set|split|data|daten|part)?[\s_-]*\d*")

NOT_UNDERSTOOD = "are not understood"  # in the notes about a pool
BLANKS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
# Signs that nobody sees: NUL, soft hyphen, zero-width space, word joiner, mark of the order of bytes.
_INVISIBLE = "[\\x{0}\\x{ad}\\x{200b}\\x{2060}\\x{feff}]"
_AS_TEXT = r'^\s*="(.*)"\s*$'  # how a spreadsheet keeps the zeros of "0012"
_SPANISH_MAN = frozenset({"h", "hombre", "v", "varon", "varón"})
# By letter only where it means one sex in every language that has it: `H` is homme and hombre, `M` is mujer as well.
_MEN = (
    *("m", "male", "man", "männlich", "maennlich", "mann", "masculin", "homme", "masculino", "hombre", "varón"),
    *("varon", "maschio", "maschile", "uomo", "mężczyzna", "男", "男性"),
)
_WOMEN = (
    *("f", "female", "w", "woman", "weiblich", "frau", "féminin", "feminin", "femme", "femenino", "mujer", "feminino"),
    *("mulher", "femmina", "femminile", "donna", "kobieta", "女", "女性"),
)
_SEXES = dict.fromkeys(_MEN, "M") | dict.fromkeys(_WOMEN, "F")


def text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as trimmed strings; blanks and the usual words for "no value" become null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    seen = pc.replace_substring_regex(column.cast(pa.string()), _INVISIBLE, "")
    trimmed = pc.utf8_trim_whitespace(pc.replace_substring_regex(seen, _AS_TEXT, r"\1"))
    return pc.if_else(pc.is_in(trimmed, pa.array(BLANKS)), None, trimmed)


def split_name(value: str) -> str:
    """A side of a split by a known word: `val1`, `Test-Set` and `tr` -> val, test, train; others as they are."""
    word = value.strip().lower()
    if word in SPLIT_NAMES:
        return value
    for name in sorted(SPLIT_NAMES | _OTHER_SPLIT_NAMES.keys(), key=len, reverse=True):
        if word.startswith(name) and _BEHIND_A_SPLIT.fullmatch(word[len(name) :]):
            return _OTHER_SPLIT_NAMES.get(name, name)
    return value


def split_names(column: pa.ChunkedArray, notes: Notes) -> pa.ChunkedArray:
    """Sides of a split by words that are known; what is read in another way than it is written is said."""
    read = {value: split_name(value) for value in pc.unique(column).drop_null().to_pylist()}
    others = {value: word for value, word in read.items() if word != value}
    if others:
        shown = ", ".join(f"{value!r} as {word}" for value, word in sorted(others.items())[:5])
        notes.mention(f"names of the split are read: {shown}")
    return by_value(column, read.get, pa.string()) if others else column


def without_placeholders(column: pa.ChunkedArray, what: str, notes: Notes) -> pa.ChunkedArray:
    """A column with placeholders as null; they are counted."""
    counts = {row["values"]: row["counts"] for row in pc.value_counts(column.drop_null()).to_pylist()}
    empty = {value: count for value, count in counts.items() if is_placeholder(value)}
    if not empty:
        return column
    shown = ", ".join(f"{value!r} {count}" for value, count in sorted(empty.items(), key=lambda item: -item[1])[:8])
    notes.warn(f"{sum(empty.values()):,} {what} are placeholders and count as not known: {shown}")
    return pc.if_else(pc.is_in(column, pa.array(list(empty), pa.string())), None, column)


def say_unread(written: pa.ChunkedArray, read: pa.ChunkedArray, what: str, notes: Notes) -> None:
    """Count the values that were not understood and count as not known."""
    is_lost = pc.or_kleene(pc.is_null(read), pc.equal(read.cast(pa.string()), "unknown"))
    lost = pc.and_(pc.is_valid(written), is_lost)
    counts = pc.value_counts(written.filter(lost)).to_pylist()
    known = {row["values"]: row["counts"] for row in counts if not is_placeholder(row["values"])}
    if known:
        shown = ", ".join(f"{value!r} {count}" for value, count in sorted(known.items(), key=lambda i: -i[1])[:5])
        notes.warn(f"{sum(known.values()):,} values of {what} {NOT_UNDERSTOOD} and count as not known: {shown}")


def views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """PA, AP, LL or unknown; never null."""
    return pc.fill_null(by_value(column, view, pa.string()), "unknown")


def sexes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """M, F or null; beside an `H` (hombre), `M` may be a woman (mujer), and is not known."""
    is_spanish = bool({value.casefold() for value in pc.unique(column).drop_null().to_pylist()} & _SPANISH_MAN)
    return by_value(column, lambda value: None if is_spanish and value.casefold() == "m" else sex(value), pa.string())


def ages(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Years, float32; null when unreadable or outside 0..120."""
    return by_value(column, age_years, pa.float32())


def sex(value: str) -> str | None:
    """M, F or None."""
    return _SEXES.get(value.strip().lower())


def by_value(
    column: pa.ChunkedArray, function: Callable[[str], str | float | None], kind: pa.DataType
) -> pa.ChunkedArray:
    """What `function` makes of each value, called once per distinct one; null stays null."""
    values = pc.unique(column).drop_null()
    meant = pa.array([function(value) for value in values.to_pylist()], kind)
    return pc.take(meant, pc.index_in(column, values))
