"""The files for clusters are what their readers take: YAML, Ray's own schema, a Dockerfile that copies what is there.

Nothing is built, pulled or started.
"""

import re
import shlex

import pytest
from ruamel.yaml import YAML

from tests.import_graph import ROOT

FOLDER = ROOT / "configs" / "cluster"


def documents(name):
    return list(YAML(typ="safe").load_all((FOLDER / name).read_text("utf-8")))


@pytest.mark.filterwarnings("ignore")
def test_ray_itself_takes_the_ray_up_file(monkeypatch):
    from ray.autoscaler._private.util import prepare_config, validate_config

    [config] = documents("ray-up.yaml")
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = [kind for name, kind in prepared["available_node_types"].items() if name == prepared["head_node_type"]]
    assert workers and prepared["max_workers"] == 2


def test_the_ray_up_cluster_asks_for_a_token_and_shows_its_dashboard_to_nobody():
    [config] = documents("ray-up.yaml")
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert any(place.endswith(".ray/auth_token") for place in config["file_mounts"])
    [start] = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start and "0.0.0.0" not in start


def test_the_ray_job_asks_for_a_token_and_closes_its_network():
    job, policy = documents("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pods = [
        job["spec"]["submitterPodTemplate"],
        cluster["headGroupSpec"]["template"],
        *(group["template"] for group in cluster["workerGroupSpecs"]),
    ]
    for pod in pods:
        assert pod["metadata"]["labels"] == policy["spec"]["podSelector"]["matchLabels"]
        [container] = pod["spec"]["containers"]
        assert set(container["resources"]["limits"]) >= {"cpu", "memory"}
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    kinds = {kind for document in (job, policy) for kind in [document["kind"]]}
    assert kinds == {"RayJob", "NetworkPolicy"}, "no service or ingress opens a port"


def test_the_entry_point_and_its_options_are_ours():
    from pipeline.contracts import config_file
    from pipeline.contracts.object_store import is_url

    words = shlex.split(documents("rayjob.yaml")[0]["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "jobs.run_rounds"]
    assert {"--out", "--pool", "--resume"} <= set(words)
    given = [config_file.parse_override(words[i + 1]) for i, word in enumerate(words) if word == "--set"]
    config = config_file.load(None, dict(given))
    places = [config.embed.store, words[words.index("--out") + 1], words[words.index("--pool") + 1]]
    assert all(is_url(place) for place in places), "the pods share no disk"
    assert config.train.adapt == "head" and config.pretrain.epochs == 0, "what is trained needs one"


def test_the_versions_in_the_files_are_the_locked_ones():
    [ray] = re.findall(r"^ray==(.+)$", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    assert documents("rayjob.yaml")[0]["spec"]["rayClusterSpec"]["rayVersion"] == ray


INSTRUCTIONS = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "CMD"}


def test_the_dockerfile_copies_what_is_there_and_runs_as_nobody_special():
    text = re.sub(r"\\\n\s*", " ", (FOLDER / "Dockerfile").read_text("utf-8"))
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {name for name, _ in lines} <= INSTRUCTIONS
    copied = [name for kind, rest in lines if kind == "COPY" for name in rest.split()[:-1]]
    assert copied and [name for name in copied if not (ROOT / name).exists()] == []
    assert [rest for kind, rest in lines if kind == "USER"] == ["ray"]
    assert ("ARG", "CUDA=0") in [tuple(line) for line in lines]
    forced = re.findall(r'^"(configs/\S+)" =', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert all(any(name.startswith(f"{place}/") for place in copied) for name in forced), "the wheel needs them"


def test_the_install_without_cuda_leaves_out_every_package_of_it():
    """The filter of `install.sh` on the lock: what is left has no CUDA, and nothing else is gone."""
    script = (FOLDER / "install.sh").read_text("utf-8")
    [pattern] = re.findall(r"grep -viE '([^']+)'", script)
    lock = [line for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines() if "==" in line]
    left = [line for line in lock if not re.match(pattern, line, re.IGNORECASE)]
    gone = {line.partition("==")[0] for line in lock} - {line.partition("==")[0] for line in left}
    assert not [line for line in left if re.search("nvidia|cuda|cu1[23]", line)]
    other = {name for name in gone if not name.startswith(("nvidia-", "cuda-"))}
    assert other == {"torch", "torchvision", "triton", "faiss-gpu"}
