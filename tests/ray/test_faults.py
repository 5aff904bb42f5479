"""A scan that kills its worker is left out by name; a node that dies takes only the work in flight along."""

import hashlib
import json
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from embeddings.extract import DEADLY, Shard
from embeddings.store import EmbeddingStore
from pipeline.contracts.options.running import EngineConfig
from pipeline.runtime.ray_engine import RayEngine
from tests.support.forked import SERVER


def shard_of(folder, num):
    """A shard of tiny pictures, which no network has to be built for."""
    files = [folder / f"{i}.png" for i in range(num)]
    for i, file in enumerate(files):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    sha256 = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    store = EmbeddingStore(folder / "store", "key", "squares")
    return Shard(sha256, tuple(map(str, files)), None, None, store, 4, 8, 10_000, 1)


@pytest.mark.ray
def test_a_scan_that_kills_its_worker_twice_is_left_out_by_name(ray_session, tmp_path):
    died = tmp_path / "died"

    def embeds(shard):
        import os

        from embeddings import decode, extract

        scan_square, forward_of = decode.scan_square, extract.forward_of

        def deadly(uri, *rest):
            if uri.endswith("6.png"):
                with died.open("a") as stream:
                    stream.write("x")
                os._exit(1)
            return scan_square(uri, *rest)

        decode.scan_square = deadly
        extract.forward_of = lambda *_: (lambda scan_N1SS: scan_N1SS.mean(axis=(2, 3)).repeat(3, axis=1), None)
        try:
            return extract.embed_shard(shard)
        finally:
            decode.scan_square, extract.forward_of = scan_square, forward_of

    shard = shard_of(tmp_path, 10)
    [(_, result)] = ray_session.map_shards(embeds, [shard])
    assert died.read_text() == "xx"
    assert result.broken == ((shard.sha256[6], f"6.png: {DEADLY}"),)
    assert result.num_embedded == 9 and shard.store.known() == {*shard.sha256} - {shard.sha256[6]}
    assert not list(shard.store.folder.glob("begun-*"))


# A node that hangs has its ten seconds as ever; only the dead one, whose connection is refused, is given up sooner.
SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}


def two_nodes(folder):
    """In a process of its own, as Ray's Cluster starts a head and a node that no other Ray may know of."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    attempts, small = folder / "attempts", {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(
        initialize_head=True, head_node_args={"include_dashboard": False, "_system_config": SOON, **small}
    )
    node = cluster.add_node(**small)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    doomed = node.node_id

    def work(number):
        import time

        import ray

        here = ray.get_runtime_context().get_node_id()
        with attempts.open("a") as stream:
            stream.write(f"{number} {here}\n")
        while here == doomed or doomed not in attempts.read_text():
            time.sleep(0.1)  # there until its node dies; elsewhere until something has begun there
        return 10 * number

    def kill():
        while not attempts.exists() or doomed not in attempts.read_text():
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    results = dict(RayEngine(EngineConfig(max_retries=2)).map_shards(work, list(range(6))))
    (folder / "results.json").write_text(json.dumps({"results": results, "doomed": doomed}))
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.cluster
def test_a_node_that_dies_costs_no_more_than_the_work_in_flight(tmp_path):
    nodes = SERVER.Process(target=two_nodes, args=(tmp_path,))
    nodes.start()
    nodes.join(240)
    assert nodes.exitcode == 0
    outcome = json.loads((tmp_path / "results.json").read_text())
    assert outcome["results"] == {str(i): 10 * i for i in range(6)}
    lines = [line.split() for line in (tmp_path / "attempts").read_text().splitlines()]
    on_the_dead = [number for number, node in lines if node == outcome["doomed"]]
    finished = [number for number, node in lines if node != outcome["doomed"]]
    assert len(on_the_dead) == 1  # one CPU, so one task was in flight there
    assert sorted(finished) == [str(i) for i in range(6)]  # nothing that was finished was done again
