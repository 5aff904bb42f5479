"""JPEG Extended with 12 bits, decoded by GDCM: a plug-in of pydicom, whose own GDCM plug-in leaves it out.

See pydicom's guide to decoding plug-ins. Where the loss carries a value above the bits stored, GDCM begins again at
0: of one of the committee's three files of this kind that are 8 of 3,097,600 values.
"""

from typing import TYPE_CHECKING

from pydicom import uid

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

try:
    import gdcm
except ImportError:
    gdcm = None

DECODER_DEPENDENCIES = {uid.JPEGExtended12Bit: ("python-gdcm>=3.0.10",)}


def is_available(syntax: str) -> bool:
    """Whether GDCM is there for this transfer syntax."""
    return gdcm is not None and syntax in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: "DecodeRunner") -> bytes:
    """One frame's values, little endian, 16 bits each."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    syntax = gdcm.TransferSyntax.GetTSType(str(uid.JPEGExtended12Bit))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(
        gdcm.PixelFormat(
            runner.samples_per_pixel,
            runner.bits_allocated,
            runner.bits_stored,
            runner.bits_stored - 1,
            runner.pixel_representation,
        )
    )
    frame: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM returns its bytes as text
    return frame
