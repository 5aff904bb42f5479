"""What white is, where a file leaves it open.

A file of 16 bits may hold 10, 12 or 14 bits' worth: read as 16, such a scan is almost black. Where the file does not
say how many bits count (PNG says it in `sBIT`, TIFF and DICOM in their bits), the largest value of the scan tells:
the narrowest usual width that holds it. One dark scan among others must not become a bright one, so the pool has the
last word: a width that few scans end at is the next wider one.
"""

from collections.abc import Mapping, Sequence

# Bits of detectors and films as they are sold, and of what converters write.
WIDTHS = (8, 10, 12, 14, 15, 16)
_FEW = 0.10  # of the scans at the next wider width
_NEAR_BITS = 2  # a scan that dark may be of that width; one of a sixteenth of the range is not


def white_of_bits(bits: int) -> int:
    """The largest value of so many bits."""
    return (1 << bits) - 1


def bits_of(largest: int, most: int) -> int:
    """The narrowest usual width that holds a value, of a container with `most` bits."""
    return min(next((bits for bits in WIDTHS if largest <= white_of_bits(bits)), most), most)


def among(whites: Sequence[int], bits: int) -> int:
    """The smallest of the whites that a pool has decided on which holds a scan, as far as it may be that dark; else
    its own.

    Args:
        whites: Of the pool; may be empty.
        bits: That the scan's own values seem to have, see `bits_of`.
    """
    own = white_of_bits(bits)
    return min((white for white in whites if own <= white <= white_of_bits(bits + _NEAR_BITS)), default=own)


def note(bits: int, most: int, white: int, whites: Sequence[int]) -> str | None:
    """What a reader should know of a white that was decided for one scan; None: the pool's, or the file's whole range.

    Args:
        bits: That the scan's own values seem to have, see `bits_of`.
        most: Bits of a value in the file.
        white: That the scan is read with.
        whites: Of the pool; may be empty.
    """
    if white in whites or white >= white_of_bits(most):
        return None
    return f"the file does not say what is white, and its values need {bits} of {most} bits: read with white {white}"


def decide(num_by_bits: Mapping[int, int]) -> dict[int, int]:
    """Of each width that scans of the pool seem to have, the width they are read with.

    Args:
        num_by_bits: How many scans end at each width; see `bits_of`.
    """
    read_with: dict[int, int] = {}
    in_use: dict[int, int] = {}
    for bits in sorted(num_by_bits, reverse=True):
        wider = min(in_use, default=None)
        is_few = wider is not None and wider - bits <= _NEAR_BITS and num_by_bits[bits] < _FEW * in_use[wider]
        read_with[bits] = wider if is_few and wider is not None else bits
        in_use[read_with[bits]] = in_use.get(read_with[bits], 0) + num_by_bits[bits]
    return read_with
