"""Facts about the model: what it is, how it was trained, what it puts out, how it can be had."""

from pipeline.pages.wording import count, known, plural, words
from pipeline.report.checklists.fact import CARD, Fact, file, lies_in, see, settings
from pipeline.report.gather import Row, RunData
from pipeline.report.methods import adapted, methods
from pipeline.report.methods import software as versions
from pipeline.runtime import run_files


def _text(run: RunData, *names: str) -> str:
    text_of = dict(methods(run))
    return " ".join(text_of[name] for name in names if name in text_of)


def _train(run: RunData) -> Row:
    return run.config.get("train") or {}


def _model_folder(run: RunData) -> tuple[tuple[str, str], ...]:
    if not run.last or not known(run.last.get("round")):
        return ()
    place, address = file(run, f"{run_files.round_name(run.last['round'])}/{run_files.MODEL}")
    return ((place, f"{address}/"),) if lies_in(run, address) else ()


def technology(run: RunData) -> Fact | None:
    """Deep features and a classifier."""
    if not run.backbone.get("name"):
        return None
    what = words(run.findings) if run.findings else "findings"
    text = f"Deep learning: classification of chest radiographs ({what}) from features of {run.backbone['name']}."
    return Fact(text, (see("methods", "methods"),))


def model(run: RunData) -> Fact | None:
    """Backbone and head."""
    text = _text(run, "Representation", "Learning")
    return Fact(text, (see("methods", "methods"), ("model card", CARD), *_model_folder(run))) if text else None


def software(run: RunData) -> Fact | None:
    """Versions."""
    text = versions(run)
    return Fact(text, (file(run, run_files.ENV), see("settings", "settings"))) if text else None


def initial_weights(run: RunData) -> Fact | None:
    """Where the backbone's weights come from."""
    if not run.backbone.get("origin"):
        return None
    head = (
        " The linear head is a convex problem solved to convergence, so its start does not matter."
        if _train(run).get("head") == "linear"
        else " The head starts from random weights drawn from the run’s seed."
    )
    network = " The adapted network starts from these weights and the student’s head." if adapted(run) else ""
    return Fact(f"Backbone: {run.backbone['origin']}.{head}{network}", (file(run, run_files.BACKBONE),))


def training(run: RunData) -> Fact | None:
    """Selection, learning, calibration."""
    text = _text(run, "Selection and labels", "Learning", "Calibration")
    return Fact(text, (see("training", "training"), settings(run))) if text else None


def final_model(run: RunData) -> Fact | None:
    """The last round's, whatever the holdout said."""
    if not run.rounds:
        return None
    rolled = [row["round"] for row in run.rounds if row.get("rolled_back")]
    back = f" Rolled back on expert labels: {words(f'round {n}' for n in rolled)}." if rolled else ""
    text = (
        f"The model of the last of {plural(len(run.rounds), 'round')}; the holdout took no part in choosing it.{back}"
    )
    return Fact(text, (see("learning", "learning curve"),))


def ensemble(run: RunData) -> Fact | None:
    """There is none."""
    return Fact("No ensemble: one classifier on one backbone.", _model_folder(run)) if run.rounds else None


def predictors(run: RunData) -> Fact | None:
    """The scan alone."""
    if not run.backbone:
        return None
    return Fact(
        "The only input is the scan itself; age, sex, source and file metadata are not given to the model.",
        (settings(run),),
    )


def predictor_measure(run: RunData) -> Fact | None:
    """The network's numbers, the same for all."""
    text = _text(run, "Representation")
    return Fact(f"{text} The same network and weights for every scan.", (see("methods", "methods"),)) if text else None


def predictor_blind(run: RunData) -> Fact | None:
    """Features are computed without labels."""
    if not run.backbone:
        return None
    if adapted(run):
        return Fact(
            "The network reads the pixels alone; what it learned comes from labels and pseudo-labels of the training "
            "pool, never from the holdout’s.",
            (see("methods", "methods"),),
        )
    return Fact(
        "Features are computed from the pixels alone, before and without any label.", (see("methods", "methods"),)
    )


def predictor_handling(run: RunData) -> Fact | None:
    """Principal components on one scale."""
    if not run.backbone.get("dim"):
        return None
    axes = _train(run).get("num_components")
    text = f"{count(run.backbone['dim'])} continuous features, centred, scaled, and rotated to at most {axes} "
    return Fact(text + "principal components; nothing is cut into categories.", (settings(run),))


def overfitting(run: RunData) -> Fact | None:
    """Penalty, out-of-fold fits, a sealed holdout."""
    train = _train(run)
    if not train or not run.rounds:
        return None
    folds = (run.config.get("calibrate") or {}).get("num_folds")
    text = (
        f"An L2 penalty (teacher {train.get('teacher_l2')}, student {train.get('student_l2')}); thresholds and "
        f"calibration from {folds} patient-grouped folds, out of fold; performance from a holdout that took no part."
    )
    return Fact(text, (see("training", "training"), settings(run)))


def imbalance(run: RunData) -> Fact | None:
    """Balanced training, then the pool's prevalence."""
    if not run.rounds or not known((run.last or {}).get("temperature")):
        return None
    text = (
        "Classes count the same in training; probabilities are then recalibrated and shifted to the prevalence that "
        "the blind random labels show. No scan is resampled or made up."
    )
    return Fact(text, (see("methods", "methods"),))


def output(run: RunData) -> Fact | None:
    """Probabilities, and the rule that turns them into an answer."""
    text = _text(run, "Calibration")
    if not text:
        return None
    return Fact(
        f"A probability for each finding and one answer. {text}",
        (see("pseudo", "thresholds"), settings(run)),
    )


def prediction(run: RunData) -> Fact | None:
    """The model's files."""
    folder = _model_folder(run)
    return Fact("From the files of the model: safetensors, ONNX and their card.", folder) if folder else None


def model_files(run: RunData) -> Fact | None:
    """Weights as safetensors and ONNX."""
    if not _model_folder(run):
        return None
    licence = run.backbone.get("licence")
    return Fact(
        "The classifier as safetensors and ONNX with its card; the backbone by name and hash"
        + (f" (licence {licence})." if licence else "."),
        (*_model_folder(run), ("model card", CARD)),
    )


def protocol(run: RunData) -> Fact | None:
    """The resolved configuration and all numbers."""
    if not run.config:
        return None
    text = "Every option of the run is in resolved.yaml, every number of every round in metrics.jsonl."
    return Fact(text, (settings(run), file(run, run_files.METRICS), ("model card", CARD)))


def code(run: RunData) -> Fact | None:
    """The software and its revision."""
    versions = run.env.get("versions") or run.env
    if not versions.get("cxr_ssl"):
        return None
    git = f", revision {versions['git']}" if versions.get("git") else ""
    return Fact(
        f"cxr-ssl {versions['cxr_ssl']}{git}; the run can be repeated from resolved.yaml and its seed.",
        (settings(run),),
    )


def availability(run: RunData) -> Fact | None:
    """Code and model files."""
    parts = [fact for fact in (code(run), model_files(run)) if fact]
    links = tuple(dict.fromkeys(link for fact in parts for link in fact.links))
    return Fact(" ".join(fact.text for fact in parts), links) if parts else None


def study_kind(run: RunData) -> Fact | None:
    """Development, with whatever evaluation there is."""
    if not run.rounds:
        return None
    tests = ["internal evaluation on a sealed holdout"] if run.scores else []
    tests += [plural(len(run.external), "external test")] if run.external else []
    return Fact(f"Development of a model{f' with {words(tests)}' if tests else ''}.", (see("result", "result"),))


def intended_use(run: RunData) -> Fact | None:
    """Research only, as the model card says."""
    if not run.rounds:
        return None
    return Fact("The model card states: research only, no decision about a patient.", (("model card", CARD),))


def poor_input(run: RunData) -> Fact | None:
    """Unreadable files get a reason."""
    text = (
        f"A file that cannot be read is set aside with a reason ({count(run.flow.get('quarantined'))} here) and never "
        "guessed at."
    )
    return Fact(text, (see("flow", "files set aside"),)) if run.flow.get("found") else None
