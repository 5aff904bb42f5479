"""Words that stand where nothing is known: in any column, and where a scan has no label."""

# What is written where nobody knows, in any case; each counts as blank and is counted.
PLACEHOLDERS = frozenset(
    {
        *("?", "??", "???", "-", "--", "---", "–", "—", ".", "..", "...", "*", "#", "[]", "xxx", "xxxx"),
        *("#n/a", "#na", "#null!", "#ref!", "#value!", "#name?", "#div/0!", "#num!"),  # of spreadsheets
        *(
            "<na>",
            "<null>",
            "<none>",
            "(null)",
            "(blank)",
            "(none)",
            "(unknown)",
            "\\n",
            "nat",
            "nan",
            "nil",
            "none",
            "null",
        ),
        *("na", "n/a", "n.a", "n.a.", "n\\a", "k.a.", "not known", "not available", "not applicable", "not recorded"),
        *(
            "undefined",
            "unknown",
            "unkown",
            "unk",
            "unkn",
            "unspecified",
            "not specified",
            "not stated",
            "not provided",
        ),
        *("missing", "no data", "no value", "no information", "none given", "no id"),
        *("todo", "to do", "to be done", "to be determined", "tbd", "tba", "tbc", "pending"),
        *(
            "unbekannt",
            "inconnu",
            "inconnue",
            "desconocido",
            "desconocida",
            "sconosciuto",
            "onbekend",
            "okänd",
            "ukjent",
        ),
        *("anonymous", "anon", "anonymized", "anonymised", "deidentified", "de identified", "redacted"),
    }
)
# What is said of a scan or a folder of scans that nobody has read.
NOT_LABELLED = frozenset(
    {
        *(
            "unlabelled",
            "unlabeled",
            "un labelled",
            "un labeled",
            "not labelled",
            "not labeled",
            "no label",
            "no labels",
        ),
        *("without label", "without labels", "to label", "tolabel", "label me", "unread", "to read", "unsorted"),
        *("untagged", "to be labelled", "to be labeled", "to be annotated", "needs label", "needs labels"),
        *("unannotated", "not annotated", "unclassified", "not classified", "unassigned", "cannot tell", "no labels"),
    }
)


NO_LABEL = PLACEHOLDERS | NOT_LABELLED


def is_placeholder(value: str, words: frozenset[str] = PLACEHOLDERS) -> bool:
    """Whether a text stands where nothing is known, whatever its case, outer blanks and quotes, `_` for blanks."""
    plain = " ".join(value.strip().strip("'\"").split()).casefold()
    return not plain or plain in words or " ".join(plain.replace("_", " ").replace("-", " ").split()) in words - {""}
