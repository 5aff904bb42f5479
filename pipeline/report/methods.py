"""Draft text of a paper's methods, from what the run recorded; a sentence is there only where its facts are."""

from pipeline.pages.wording import count, decimal, known, percent, place, plural, signed, words
from pipeline.report.gather import Row, RunData

_STRATEGIES = {
    "rare_class_herding": "the scans that best cover what the classifier is unsure of (Uncertainty Herding, Bae et al. "
    "2025) and, while a rare class had fewer than five labels, also those farthest from all labels, by angle and by "
    "distance in turn (after Sener and Savarese 2018)",
    "uncertainty_herding": "the scans that best cover what the classifier is unsure of (Uncertainty Herding, Bae et "
    "al. 2025)",
    "max_herding": "the scans that best cover the pool under a Gaussian kernel (MaxHerding, Bae et al. 2024)",
    "prob_cover": "the scans whose balls of a fixed radius cover most of the pool (ProbCover, Yehuda et al. 2022)",
    "facility_location": "the scans that every other one is most similar to (facility location, Wei et al. 2015)",
    "typiclust": "the most typical scan of each cluster of similar scans (TypiClust, Hacohen et al. 2022)",
    "kmedoids": "the scans nearest to the centres of clusters of similar scans (k-medoids)",
    "core_set": "the scans farthest from all labelled ones (core-set, Sener and Savarese 2018)",
    "badge": "diverse scans of large gradient (BADGE, Ash et al. 2020)",
    "margin": "the scans of the smallest margin between two classes",
    "entropy": "the scans of the highest predictive entropy",
    "bald": "the scans over which a committee of classifiers disagrees (BALD, Houlsby et al. 2011)",
    "drop_query": "scans whose class changes when features are dropped (DropQuery, Gupte et al. 2024)",
    "slice_stratified": "slice by slice, those without labels first, by Uncertainty Herding within each",
    "random": "uniformly at random",
}
_LIBRARIES = ("torch", "timm", "scikit_learn", "onnxruntime", "faiss_gpu", "faiss_cpu", "numpy", "pyarrow", "ray")


def methods(run: RunData) -> list[tuple[str, str]]:
    """Heading and paragraph, in the order of a paper; what the run did not record is left out."""
    parts = [
        ("Data", _data(run)),
        ("Splits", _splits(run)),
        ("Representation", _representation(run)),
        ("Selection and labels", _selection(run)),
        ("Learning", _learning(run)),
        ("Calibration", _calibration(run)),
        ("Evaluation", _evaluation(run)),
        ("Audit", _audit(run)),
        ("Software", software(run)),
    ]
    return [(name, text) for name, text in parts if text]


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _section(run: RunData, name: str) -> Row:
    return run.config.get(name) or {}


def _data(run: RunData) -> str:
    flow, uri = run.flow, str(_section(run, "pool").get("uri") or "")
    if not flow.get("found"):
        return ""
    kind = "computer-drawn phantom radiographs" if uri.startswith("phantom:") else "chest radiographs"
    patients = f" of {plural(flow['patients'], 'patient')}" if flow.get("patients") else ""
    reasons = "; ".join(f"{reason}: {count(number)}" for reason, number in flow["reasons"][:4])
    aside = f" {plural(flow['quarantined'], 'file')} could not be used ({reasons})." if flow["quarantined"] else ""
    sources = flow["sources"]
    where = f" from {plural(len(sources), 'source')} ({words(sources[:6])})" if 0 < len(sources) <= 6 else ""
    chosen = ""
    if flow.get("num_not_chosen"):
        why = "; ".join(f"{reason}: {count(number)}" for reason, number in flow["not_chosen"][:6])
        chosen = (
            f" Before that {plural(flow['num_not_chosen'], 'scan was', 'scans were')} left out by what is known of "
            f"them ({why})."
        )
    return (
        f"The pool held {plural(flow['found'], 'file')}; {count(flow['readable'])} were read as {kind}"
        f"{patients}{where}." + aside + chosen + _joined(run) + _provenance(flow.get("provenance") or [])
    )


def _joined(run: RunData) -> str:
    """The pools that joined, which the other numbers of the paragraph count too."""
    pools = [
        f"{plural(part['num_new'], 'scan')} of {place(part['pool'])} {joined_when(part['after_round'])}"
        for part in run.growth
    ]
    if not pools:
        return ""
    return (
        f" Of the pool's scans some joined later: {words(pools)}. Of their patients who were new a holdout was drawn "
        "by the same rule, and the holdout of before stayed as it was."
    )


def joined_when(after_round: int) -> str:
    """When a pool joined, in words."""
    return f"after round {after_round}" if after_round else "before the first round was finished"


def _provenance(rows: list[Row]) -> str:
    """Who labelled the pool before this run, where it tells."""
    named = [f"{row['provenance']} ({plural(row['num_labels'], 'label')})" for row in rows]
    readers = sum(row["num_readers"] for row in rows)
    several = f" Of {plural(readers, 'named reader')} every reading was kept." if readers else ""
    return f" Labels that came with the pool: {words(named)}.{several}" if named else ""


def _splits(run: RunData) -> str:
    flow, rule = run.flow, _section(run, "duplicates")
    if not known(flow.get("train")):
        return ""
    copies = ""
    if known(flow.get("groups")) and known(rule.get("max_bits")):
        copies = (
            f"Copies of a scan were found by its bytes ({count(flow['exact'])}) and by hashes of the picture within "
            f"{rule['max_bits']} of 255 bits, confirmed by the correlation of their fine detail (at least "
            f"{rule.get('min_correlation')}; {count(flow['near'])}). Copies and all scans of a patient formed "
            f"{plural(flow['groups'], 'group')}, and no group was ever divided."
        )
    patients = (run.sides.get("holdout") or {}).get("num_patients")
    whose = f" of {plural(patients, 'patient')}" if known(patients) else ""
    sealed = f"A holdout of {plural(flow['holdout'], 'scan')}{whose} was sealed {split_rule(run)}"
    rest = f"; {plural(flow['train'], 'scan')} remained for learning."
    left = flow.get("left_out") or []
    out = "; ".join(f"{count(number)}: {reason}" for reason, number in left)
    return _join(copies, sealed + rest, f"Some scans were used on neither side ({out})." if out else "")


def split_rule(run: RunData) -> str:
    """How scans came to their side."""
    rule = _section(run, "splits")
    if rule.get("holdout_source"):
        return f"by source ({rule['holdout_source']})"
    if run.flow.get("has_own_split") and rule.get("column") != "none":
        return "as the pool’s own split says"
    if known(rule.get("holdout_fraction")):
        return f"by a hash of the group (target share {percent(rule['holdout_fraction'], 0)})"
    return "by group"


def _representation(run: RunData) -> str:
    backbone = run.backbone
    if not backbone:
        return ""
    size = backbone.get("size_px") or _section(run, "preprocess").get("size_px")
    weights = f", weights {backbone['weights_hash'][:12]}" if backbone.get("weights_hash") else ""
    return (
        f"Every scan was resized to {size}×{size} px without cropping and passed once through {backbone.get('name')} "
        f"(origin: {backbone.get('origin')}; licence: {backbone.get('licence')}{weights}), which gave "
        f"{count(backbone.get('dim'))} numbers a scan. {_pretraining(run)}{_weights(run)}"
    )


def _pretraining(run: RunData) -> str:
    pretrain = _section(run, "pretrain")
    if not pretrain.get("epochs"):
        return ""
    return (
        f"Before, it was trained on the training pool without labels ({pretrain.get('method')}, "
        f"{plural(pretrain['epochs'], 'epoch')}). "
    )


def adapted(run: RunData) -> bool:
    """Whether an adapted network has a say in the classifier in force."""
    return str((run.last or {}).get("learner") or "").endswith("+network")


def answers_with_head(last: Row | None) -> bool:
    """Whether a round's network was trained to answer with the head it started from; the first ones answered alone."""
    return (last or {}).get("network_worse") is not None


def classifier_words(run: RunData) -> str:
    """What the classifier in force is."""
    if not adapted(run):
        return "a head on frozen embeddings"
    if not answers_with_head(run.last):
        return "a network adapted to this pool"
    return "the mean of a network adapted to this pool and a head on frozen embeddings"


def _weights(run: RunData) -> str:
    if adapted(run):
        return "These numbers, and the queue, come from its weights before the classifier changed them (Learning)."
    after = "after that" if _section(run, "pretrain").get("epochs") else "in this run"
    return f"Its weights were not changed {after}."


def _selection(run: RunData) -> str:
    queue, strategy, last = _section(run, "queue"), _section(run, "strategy"), run.last or {}
    if not known(queue.get("budget")) or not run.rounds:
        return ""
    how = _STRATEGIES.get(str(strategy.get("name")), f"the strategy “{strategy.get('name')}”")
    blind = f"{percent(queue.get('uniform_share'), 0)} of them were drawn uniformly at random and read blind; "
    return _join(
        f"In {plural(len(run.rounds), 'round')}, {plural(queue['budget'], 'scan')} a round were queued for labelling: "
        f"{blind}the others were {how}.",
        f"{plural(last.get('num_expert'), 'scan was', 'scans were')} labelled, {labelled_by(run)}.",
    )


def labelled_by(run: RunData) -> str:
    """Who gave the labels; names are not printed."""
    annotators = run.flow.get("annotators") or []
    if run.config.get("oracle") or annotators == ["oracle"]:
        return "looked up in the pool’s own labels; no expert took part"
    return f"by {plural(len(annotators), 'annotator')}" if annotators else "by annotators who are not named"


def _learning(run: RunData) -> str:
    train, pseudo, last = _section(run, "train"), _section(run, "pseudo"), run.last or {}
    if not train.get("head") or not run.rounds:
        return ""
    head = {"linear": "A logistic regression", "mlp": f"A network with one hidden layer of {train.get('hidden')} units"}
    spread = ", and labels spread over the neighbour graph for the scans left open" if pseudo.get("propagate") else ""
    text = (
        f"{head.get(str(train['head']), 'A classifier')} on these numbers learnt the labels. A teacher saw expert "
        f"labels alone; a student saw expert labels and the pseudo-labels that were let in{spread}. The mean of the "
        "two is the classifier."
    )
    promise = percent(pseudo.get("precision"), 0)
    gates = {
        "estimated": f"A pseudo-label was let in where its estimated precision was at least {promise}.",
        "certified": f"Pseudo-labels were let in only where blind expert checks proved a precision of {promise} "
        f"with {percent(pseudo.get('confidence'), 0)} confidence.",
        "off": "No pseudo-label was used.",
    }
    number = f"In the last round {plural(last.get('num_pseudo'), 'pseudo-label was', 'pseudo-labels were')} in force."
    return _join(
        text, gates.get(str(pseudo.get("gate")), ""), number if known(last.get("num_pseudo")) else "", _network(run)
    )


def _network(run: RunData) -> str:
    network, train, pseudo = _section(run, "network"), _section(run, "train"), _section(run, "pseudo")
    gain = (run.last or {}).get("network_gain")
    stages = {
        "partial": f"The last {plural(network.get('last_stages'), 'stage')} of the network",
        "adapter": f"An adapter of rank {network.get('adapter_rank')} (LoRA) for each layer of the last "
        f"{plural(network.get('last_stages'), 'stage')} of the network",
        "full": "The network",
    }
    what = stages.get(str(train.get("adapt")), "The network")
    if not adapted(run):
        if not known(gain):
            return ""
        several = train.get("adapt") == "partial" and network.get("last_stages") != 1
        return f"{what} {'were' if several else 'was'} trained as well and left out: {_left_out(run)}"
    whole_pool = pseudo.get("gate") == "estimated" and network.get("open_scans", pseudo.get("propagate"))
    scans = "every scan of the training pool" if whole_pool else "the scans with a pseudo-label that was let in"
    changed = [
        f"{name.replace('_', ' ')} {network[name]}"
        for name in ("balance", "label_smoothing", "focal_gamma", "mixup", "ema", "consistency", "patience")
        if network.get(name) not in (None, 0, 0.0, "none")
    ]
    options = f"; {words(changed)}" if changed else ""
    return (
        f"{what} then learnt from the student’s calibrated probabilities of {scans} and from the experts’ labels "
        f"(AdamW, learning rate {network.get('lr')}, batches of {network.get('batch_size')}, at least "
        f"{plural(network.get('min_steps'), 'step')} and {plural(network.get('epochs'), 'epoch')}, random views of "
        f"each scan{options}), once for each fold and once on all. {_shared_by(run)}{_used(run)}"
    )


def _used(run: RunData) -> str:
    """How the network answers."""
    if not answers_with_head(run.last):
        return "It is used because its out-of-fold AUROC was not below that of the classifier it started from."
    gain = signed((run.last or {})["network_gain"])
    return (
        "The mean of its calibrated log-probabilities and those of the classifier it started from is used, because out "
        f"of fold it was not worse than that classifier beyond chance (AUROC {gain})."
    )


def _left_out(run: RunData) -> str:
    if not answers_with_head(run.last):
        drop = decimal(-float((run.last or {})["network_gain"]), 3)
        return f"its out-of-fold AUROC was {drop} below that of the classifier on the numbers as they were."
    worse = words(f"{measure} by {decimal(amount, 3)}" for measure, amount in (run.last or {})["network_worse"].items())
    return f"with it the classifier was worse out of fold, beyond chance ({worse})."


def _shared_by(run: RunData) -> str:
    """That one network learned several findings, where it did."""
    findings = (run.last or {}).get("network_findings") or []
    if len(findings) < 2:
        return ""
    return (
        f"It learnt {len(findings)} findings at once ({', '.join(findings)}), with a sigmoid for each; an answer that "
        "is not known did not count, and patients were in the same fold for all of them. "
    )


def _calibration(run: RunData) -> str:
    last, folds = run.last or {}, _section(run, "calibrate").get("num_folds")
    if not known(last.get("temperature")):
        return ""
    rule = {
        "balanced": "the class whose probability is highest in proportion to its prevalence",
        "prevalence": "the most probable class",
        "pool": "the class on whose side of a cut the scan lies; the cut is halfway between even odds and Otsu’s "
        "threshold of the scores of the unlabelled training pool, and no holdout scan was read for it",
    }.get(str(last.get("operating_point")))
    return _join(
        f"Scores became probabilities by temperature scaling (T = {decimal(last['temperature'], 2)}) and were shifted "
        "to the prevalence that the blind random labels show; both were fitted on expert labels out of fold "
        f"({folds} patient-grouped folds), so the holdout took no part.",
        f"The model answers with {rule}." if rule else "",
        _site(run),
    )


def _site(run: RunData) -> str:
    adapted = (run.evaluation or {}).get("site") or {}
    if not adapted:
        return ""
    return (
        "A second operating point, adapted to the site, was cut halfway between even odds and Otsu’s threshold of the "
        f"scores of {plural(adapted.get('num_scans'), 'unlabelled scan')} of the place of use; none of them, nor their "
        "patients, is in the holdout or among the labelled scans."
    )


def _evaluation(run: RunData) -> str:
    scores, replicates = run.scores, _section(run, "evaluate").get("num_bootstrap")
    if not scores:
        return ""
    more = run.evaluation or {}
    parts = [
        name
        for key, name in (
            ("operating_points", "sensitivity and specificity at stated operating points"),
            ("predictive_values", "predictive values at stated prevalences"),
            ("calibration", "calibration slope and intercept"),
            ("decision_curve", "decision curves"),
        )
        if more.get(key)
    ]
    external = [
        f"{name} ({plural((c.get('scope') or {}).get('num_scans'), 'scan')})" for name, c in run.external.items()
    ]
    return _join(
        f"The model of the last round was scored on {plural(scores.num_scans, 'holdout scan')} in "
        f"{plural(scores.num_groups, 'group')}. Intervals are 95% score intervals "
        "(Wilson; logit for AUROC and AUPRC) on the variance of "
        f"{plural(replicates, 'bootstrap draw')} of whole patient groups.",
        f"Also reported: {words(parts)}." if parts else "",
        "Accuracy in each sub-population was compared with the rest by permutation over patients, the p values "
        "corrected by Holm’s method."
        if more.get("slices")
        else "",
        f"External tests: {words(external)}." if external else "",
        f"The log holds {plural(len(run.access), 'read')} of the holdout." if run.access else "",
    )


def _audit(run: RunData) -> str:
    audit = run.audit
    if audit is None:
        return "The pool was not audited."
    done = len(audit.checks) - len(audit.of("unchecked"))
    words_of = "; ".join(f"{o.get('check')}: “{o.get('because')}”" for o in audit.overrides)
    return _join(
        f"The pool was audited with {plural(done, 'check')} for leakage, duplicates, confounding, shortcuts and size. "
        f"The verdict was {audit.verdict}. {audit.reason}",
        f"Overridden in writing: {words_of}." if words_of else "",
    )


def software(run: RunData) -> str:
    """Versions, seed and where the whole configuration stands."""
    versions = run.env.get("versions") or run.env
    if not versions.get("cxr_ssl"):
        return ""
    revision = f" (revision {versions['git']})" if versions.get("git") else ""
    used = [f"{name.replace('_', '-')} {versions[name]}" for name in _LIBRARIES if versions.get(name)]
    python = f"Python {versions['python']}" if versions.get("python") else ""
    with_ = words([part for part in (python, *used) if part])
    seed = f" The seed was {run.config['seed']}." if "seed" in run.config else ""
    return f"cxr-ssl {versions['cxr_ssl']}{revision} with {with_ or 'libraries that were not recorded'}.{seed}"
