"""What further labels would buy, and whether the predictions still change: advice on when to stop.

In: the expert labels and features of a round, the predictions of its rounds. Out: `rounds/RR/forecast.json`.
"""
