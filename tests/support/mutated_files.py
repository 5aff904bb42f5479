"""Files that somebody, or a disk, has damaged."""

import random

_EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file with one to eight changes: a bit, bytes cut out, doubled or overwritten; most of them near its start."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.randrange(max(1, min(len(out), rng.choice((64, 512, len(data))))))
        kind = rng.randrange(4)
        if kind == 0 and out:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[place : place + rng.randrange(1, 64)]
        elif kind == 2:
            out[place:place] = out[place : place + rng.randrange(1, 64)]
        else:
            out[place : place + 4] = rng.choice(_EXTREMES)
    return bytes(out)
