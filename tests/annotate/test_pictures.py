import numpy as np
import pytest
from PIL import Image

from pipeline.annotate.pictures import deep_scans, write_picture
from tests.embeddings.decoding.test_raster import png
from tests.support.dicom_files import chest, file_bytes


@pytest.mark.parametrize("ending", ["png", "dcm"])
def test_the_page_gets_the_depth_and_others_eight_bits(tmp_path, ending):
    values = chest(side=256, bits=12)
    scan = tmp_path / f"scan.{ending}"
    scan.write_bytes(png(values) if ending == "png" else file_bytes(values, BitsStored=12, PatientName="Doe^Jane"))
    write_picture(tmp_path / "deep.png", str(scan), 10**6, full_depth=True)
    write_picture(tmp_path / "flat.png", str(scan), 10**6)
    deep, flat = np.asarray(Image.open(tmp_path / "deep.png")), np.asarray(Image.open(tmp_path / "flat.png"))
    assert (deep.dtype, flat.dtype) == (np.uint16, np.uint8) and deep.shape == flat.shape == values.shape
    assert len(np.unique(deep)) >= 1000
    np.testing.assert_allclose(deep / 65535, values / 4095, atol=1e-4)
    np.testing.assert_allclose(flat / 255, values / 4095, atol=0.003)
    assert b"Doe" not in (tmp_path / "deep.png").read_bytes() + (tmp_path / "flat.png").read_bytes()


def test_a_flat_scan_is_flat_for_everybody(tmp_path):
    Image.fromarray(chest(side=64, bits=8).astype(np.uint8)).save(tmp_path / "scan.png")
    write_picture(tmp_path / "out.png", str(tmp_path / "scan.png"), 10**6, full_depth=True)
    assert Image.open(tmp_path / "out.png").mode == "L"


def test_which_scans_are_deep(tmp_path):
    from tests.pool.test_reading import eight_bit_png, read

    pool = {"a.png": png(chest(0, 64)), "b.png": eight_bit_png(chest(1, 64)), "c.dcm": file_bytes(chest(2, 64))}
    rows, _, ctx = read(tmp_path, pool | {"broken.png": b"x"})
    assert deep_scans(ctx.folder) == {rows["a.png"]["image_id"], rows["c.dcm"]["image_id"]}
