"""What single words of tags and tables mean: views, ages and dates."""

import datetime as dt
import re

MAX_AGE_YEARS = 120
CANNOT_BE = "cannot be"  # of ages and dates, in the notes about a pool and about a scan
IN_THE_FUTURE = "in the future"
MOVED = "lie in the future, as where dates were moved to hide them"
MOST = 0.5  # of all dates of a kind: more of them in the future were moved there by whoever removed the names
_FIRST_X_RAY = dt.date(1895, 11, 8)
_FIRST_BIRTH = dt.date(_FIRST_X_RAY.year - MAX_AGE_YEARS, 1, 1)
_FORMS_OF_DATES = ("%Y%m%d", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y")
_LIKE_A_DATE = re.compile(r"(\d{8}|\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{4})(?![\d/.-])")
_YEARS_A_UNIT = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_AGE = re.compile(
    r"(\d+(?:[.,]\d+)?)\s*(?:(Y|M|W|D)|(Y)(?:RS?|EARS?|O|/O|EARS? OLD)|(M)(?:OS?|ONTHS?)|(W)(?:KS?|EEKS?)|(D)AYS?)?\.?",
    re.IGNORECASE,
)
_VIEWS = (
    ("PA", re.compile(r"(PA\b|POSTER(O|IOR)[- ]?ANTERIOR)", re.IGNORECASE)),
    ("AP", re.compile(r"(AP\b|ANTER(O|IOR)[- ]?POSTERIOR)", re.IGNORECASE)),
    ("LL", re.compile(r"(LL|RL|L)( VIEW)?$", re.IGNORECASE)),
)
LATERALS = frozenset(
    {
        *("LL", "LAT", "LATERAL", "LATERALIS", "LATERALE", "LATEROLATERAL", "LATERO-LATERAL", "LATERO-LATERALE", "L-L"),
        *("SEITLICH", "SEITL", "PROFIL", "PROFILE", "PERFIL", "PROFILO", "BOCZNE", "BOK"),
    }
)
_LATERAL_SIGNS = ("侧位", "側位", "側面", "측면")
_OBLIQUE = re.compile(r"OBLI|SCHRÄG", re.IGNORECASE)
_DASHED = re.compile(r"^([PA])[-/ ]([PA])\b", re.IGNORECASE)  # `P-A`
_DECUBITUS = re.compile(r"DECUB", re.IGNORECASE)  # named by the side that one lies on


def view(value: str) -> str:
    """`AP SUPINE`, `A.P.` -> AP, `LATERAL`, `Profil` -> LL; anything else, and what names two (`PA/LAT`) -> unknown."""
    plain = _DASHED.sub(r"\1\2", value.replace(".", "").replace("_", " ").strip())
    is_lateral = says_lateral(plain)
    named = {word for word in re.findall(r"\w+", plain.upper()) if word in ("PA", "AP")} | (
        {"LL"} if is_lateral else set()
    )
    if len(named) > 1 and not _DECUBITUS.search(plain):
        return "unknown"
    first = next((name for name, pattern in _VIEWS if pattern.match(plain)), "unknown")
    return "LL" if first == "unknown" and is_lateral and not _DECUBITUS.search(plain) else first


def says_lateral(text: str) -> bool:
    """Whether one of its words says, in one of several languages, that the view is lateral; none says oblique."""
    names = set(re.findall(r"\w+(?:-\w+)*", text.upper()))
    names |= {word for name in names for word in name.split("-")}
    is_named = bool(names & LATERALS) or any(sign in text for sign in _LATERAL_SIGNS)
    return is_named and not _OBLIQUE.search(text)


def age_years(value: str) -> float | None:
    """`34`, `034Y`, `6M`, `12D` in years; None when unreadable or outside 0..120."""
    match = _AGE.fullmatch(value)
    if match is None:
        return None
    unit = next((group for group in match.groups()[1:] if group), "")
    years = float(match[1].replace(",", ".")) * _YEARS_A_UNIT[unit.upper()]
    return years if years <= MAX_AGE_YEARS else None


def is_impossible_age(value: str) -> bool:
    """Whether a number of years is given that nobody lives: 400 or -3."""
    return age_years(value) is None and age_years(re.sub(r"\d+", "0", value.lstrip("-"), count=1)) is not None


def date(value: str) -> dt.date | None:
    """`20200102`, `2020-01-02`, `02.01.2020`, with or without a time of day behind it; None of anything else."""
    match = _LIKE_A_DATE.match(value)
    for form in _FORMS_OF_DATES if match else ():
        try:
            return dt.datetime.strptime(match[1], form).replace(tzinfo=dt.UTC).date()  # type: ignore[index]
        except ValueError:
            continue
    return None


def doubt_of_date(value: str, today: dt.date, *, is_film: bool) -> str | None:
    """Why a date cannot be: in the future, before there were X-rays, no day of the calendar; None where it can.

    Args:
        value: As written; what does not look like a date is in no doubt.
        today: A day more is allowed, because of time zones.
        is_film: Of a film, not of a birth.
    """
    if not _LIKE_A_DATE.match(value):
        return None
    day = date(value)
    if day is None:
        return "no day of the calendar"
    if day > today + dt.timedelta(days=1):
        return IN_THE_FUTURE
    if day < (_FIRST_X_RAY if is_film else _FIRST_BIRTH):
        return "before there were X-rays" if is_film else "too long ago for a patient"
    return None
