"""What single words of tags and tables mean: views and ages."""

import re

MAX_AGE_YEARS = 120
_YEARS_A_UNIT = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_AGE = re.compile(
    r"(\d+(?:[.,]\d+)?)\s*(?:(Y|M|W|D)|(Y)(?:RS?|EARS?|O|/O|EARS? OLD)|(M)(?:OS?|ONTHS?)|(W)(?:KS?|EEKS?)|(D)AYS?)?\.?",
    re.IGNORECASE,
)
_VIEWS = (
    ("PA", re.compile(r"(PA\b|PA_|POSTER(O|IOR)[- ]?ANTERIOR)", re.IGNORECASE)),
    ("AP", re.compile(r"(AP\b|AP_|ANTER(O|IOR)[- ]?POSTERIOR)", re.IGNORECASE)),
    ("LL", re.compile(r"(LL|RL|L|LAT|(LEFT |RIGHT )?LATERAL)\.?( VIEW)?$", re.IGNORECASE)),
)


def view(value: str) -> str:
    """`AP SUPINE` -> AP, `LATERAL` -> LL, anything else -> unknown."""
    return next((name for name, pattern in _VIEWS if pattern.match(value)), "unknown")


def age_years(value: str) -> float | None:
    """`34`, `034Y`, `6M`, `12D` in years; None when unreadable or outside 0..120."""
    match = _AGE.fullmatch(value)
    if match is None:
        return None
    unit = next((group for group in match.groups()[1:] if group), "")
    years = float(match[1].replace(",", ".")) * _YEARS_A_UNIT[unit.upper()]
    return years if years <= MAX_AGE_YEARS else None
