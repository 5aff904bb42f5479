"""What may be taken out of a scan before a network sees it, by name."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.alterations import grey_levels

Alteration = Literal["none", "lungs-erased", "equalised"]


def altered(pixels_SS: NDArray[np.float32], alteration: Alteration) -> NDArray[np.float32]:
    """The scan after the alteration, (S, S), float32 in [0, 1]."""
    if alteration == "lungs-erased":
        from embeddings.alterations import lungs  # its libraries take half a second, and few commands need them

        return lungs.erase(pixels_SS, lungs.lung_region(pixels_SS))
    return grey_levels.equalise(pixels_SS) if alteration == "equalised" else pixels_SS


def address(alteration: Alteration) -> str:
    """What the alteration adds to the text of a preprocessing: altered scans have stores of their own."""
    if alteration == "none":
        return ""
    from embeddings.alterations import lungs

    version = {"lungs-erased": lungs.VERSION, "equalised": grey_levels.VERSION}
    return f"-{alteration}-v{version[alteration]}"
