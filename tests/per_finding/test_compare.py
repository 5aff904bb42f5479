"""`cxr-ssl compare` of runs of independent findings: finding by finding, those that both ask for."""

import json
import shutil

from tests.support.tiny import call


def test_findings_that_both_runs_ask_for_are_paired_and_the_others_named(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = [shutil.copytree(run, tmp_path / name) for name in ("one", "two")]
    path = both[1] / "findings" / "index.json"
    index = json.loads(path.read_text())
    kept = [row for row in index["findings"] if row["finding"] == "effusion"]
    path.write_text(json.dumps(index | {"findings": kept}))
    answer = call("compare", *both, "--json")
    assert answer.code == 0, answer.err
    (pair,) = answer.json["pairs"]
    assert pair["finding"] == "effusion" and pair["metrics"][0]["difference"] == 0
    assert {row["difference"] for row in pair["metrics"]} <= {0, None}
    (apart,) = answer.json["not_paired"]
    assert (apart["finding"], apart["reason"]) == ("mass", "only one asks for it")
