"""What the report knows of the run's tables."""

import pyarrow as pa

from pipeline.contracts.tables import CLUSTERS
from pipeline.report import gather


def test_a_cluster_is_shown_by_the_scan_nearest_to_its_centre():
    table = pa.table(
        {
            "image_id": ["a", "b", "c", "d", "e"],
            "cluster": [7, 0, 7, 0, 7],
            "similarity": [0.4, 0.9, 0.8, 0.9, 0.1],
            "x": [0.0] * 5,
            "y": [0.0] * 5,
        }
    ).cast(CLUSTERS.schema)
    assert gather._medoid_ids(table) == ["b", "c"]
    assert gather._medoid_ids(CLUSTERS.empty()) == []
