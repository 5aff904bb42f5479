"""No picture that a page shows carries what the file of its scan says beside the pixels."""

import base64
import io

import pytest
from PIL import Image

from embeddings import decode
from pipeline.annotate.pictures import write_picture
from pipeline.explore import pictures
from pipeline.pages.thumbnails import thumbnail

NAME = b"Nwosu Chidinma"


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.jpg"
    Image.linear_gradient("L").save(path, comment=NAME, icc_profile=NAME, xmp=NAME)
    with Image.open(path) as image:
        assert image.info["comment"] == NAME
    return path


def test_thumbnails_and_pictures_of_pages_are_bare(scan, tmp_path):
    write_picture(tmp_path / "queue.png", str(scan), 10**6)
    small = base64.b64decode(thumbnail(str(scan), side_px=64, max_pixels=10**6).partition(",")[2])
    for data in (small, pictures.jpeg(str(scan), 100, 10**6), (tmp_path / "queue.png").read_bytes()):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.mode == "L" and not {"comment", "icc_profile", "xmp"} & set(image.info)
        assert NAME not in data
    assert decode.open_scan(str(scan), max_pixels=10**6).full_depth().info == {}
