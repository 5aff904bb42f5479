"""A student's fit, with the labels spread over the graph that it learns from."""

from pipeline.learn import head_fits


def student_of(material, config, learn_E, prob_TC, acceptance, propagate_weight=1.0, seed=0):
    """`head_fits.student_fit` of one fold alone."""
    spread_TC = None
    if propagate_weight > 0.0:
        [spread_TC] = head_fits.spread_labels(material, config, [learn_E], prob_TC.shape[1])
    return head_fits.student_fit(material, config, learn_E, prob_TC, acceptance, spread_TC, propagate_weight, seed)
