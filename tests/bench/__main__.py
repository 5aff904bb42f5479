"""Run benches by name: `python -m tests.bench [NAME ...] [--pool NAME] [--seeds N]`."""

import argparse
import os
import sys
from pathlib import Path

from tests.bench import (
    adapt,
    adjudication,
    answers,
    audit,
    burned_in,
    certificates,
    clusters,
    consensus,
    copies,
    coverage,
    decoding,
    defer,
    duplicates,
    engine,
    explore_scale,
    far_out,
    features,
    findings,
    folds,
    forecast,
    fuzz,
    grey_levels,
    grow,
    head,
    heat_maps,
    kills,
    lungs,
    monitor,
    neighbor_index,
    network,
    network_gate,
    network_starts,
    other_parts,
    outside,
    page,
    planted,
    pool_map,
    predict,
    pretrain,
    reports,
    resume,
    rounds,
    runtimes,
    second_opinion,
    selection,
    selection_oracles,
    selection_speed,
    sent_blocks,
    serve,
    sets,
    speed,
    storage,
    strategies,
    tables_scale,
    ways,
    windows,
    wrong_labels,
)

BENCHES = {
    "speed": speed.main,
    "decoding": decoding.main,
    "selection": selection.main,
    "strategies": strategies.main,
    "ways": ways.main,
    "windows": windows.main,
    "wrong_labels": wrong_labels.main,
    "selection_oracles": selection_oracles.main,
    "selection_speed": selection_speed.main,
    "resume": resume.main,
    "head": head.main,
    "rounds": rounds.main,
    "runtimes": runtimes.main,
    "coverage": coverage.main,
    "lungs": lungs.main,
    "monitor": monitor.main,
    "grey_levels": grey_levels.main,
    "grow": grow.main,
    "duplicates": duplicates.main,
    "neighbors": clusters.recall,
    "clusters_scale": clusters.scale,
    "copies": copies.main,
    "copies_scale": copies.scale,
    "engine": engine.main,
    "explore_scale": explore_scale.main,
    "adjudication": adjudication.main,
    "answers": answers.main,
    "audit": audit.main,
    "burned_in": burned_in.main,
    "consensus": consensus.main,
    "page": page.main,
    "other_parts": other_parts.main,
    "outside": outside.main,
    "predict": predict.main,
    "predict_forms": predict.forms,
    "planted": planted.main,
    "pool_map": pool_map.main,
    "adapt": adapt.main,
    "features": features.main,
    "far_out": far_out.main,
    "findings": findings.main,
    "folds": folds.main,
    "forecast": forecast.main,
    "fuzz": fuzz.main,
    "kills": kills.main,
    "heat_maps": heat_maps.main,
    "neighbor_index": neighbor_index.main,
    "network": network.main,
    "network_gate": network_gate.main,
    "network_starts": network_starts.main,
    "pretrain": pretrain.main,
    "certificates": certificates.main,
    "defer": defer.main,
    "storage": storage.main,
    "second_opinion": second_opinion.main,
    "sent_blocks": sent_blocks.main,
    "serve": serve.main,
    "sets": sets.main,
    "tables_scale": tables_scale.main,
    "reports": reports.main,
}


def main() -> int:
    """Run the benches named, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], default=[])
    parser.add_argument("--files", type=int, default=20_000, help="fuzz: mutated files")
    parser.add_argument(
        "--pool",
        help="selection, resume, second_opinion: kermany, covid3, pneumoniamnist or phantom; planted, "
        "wrong_labels, other_parts: phantoms, "
        "kermany or nih; network_gate, network_starts: kermany, nih, covid3 or phantom; adapt: the labels",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        help="repetitions, of the benches that have seeds; resume: kills",
    )
    parser.add_argument("--labels", type=int, help="network_gate: 100 or 50; both by default")
    parser.add_argument("--starts", type=int, help="network_starts: so many of the ways to start; all by default")
    given = parser.parse_args()
    data = os.environ.get("CXR_SSL_DATA")
    if not data:
        sys.stderr.write("set CXR_SSL_DATA to the folder of the real scans\n")
        return 2
    for name in given.names or BENCHES:
        BENCHES[name](Path(data), given)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
