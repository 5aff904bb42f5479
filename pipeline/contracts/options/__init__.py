"""The options of a run, by subject.

In: nothing. Out: a strict, frozen schema with type, bound, unit and help of each option; `config.Config` joins them.
"""
