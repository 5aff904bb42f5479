"""What the next labels would buy: when to stop, and what a certificate takes.

In: the forecasts, rounds and release of a run. Out: the section that helps to plan the next budget.
"""
