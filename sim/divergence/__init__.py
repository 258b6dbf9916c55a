"""Where do two runs of one network part, and why? Two questions, two ways to answer.

`diagnose` takes a run recorded elsewhere, `explain` a float network and its integers.

`diagnose` drives each population with the recorded spikes of its sources (`forced`), so that
errors before it do not count, and looks for one change that reproduces all that was recorded of
the first population that still differs (`variant`). Well-known mistakes are tried one by one
(`hypotheses`, with what is done to inputs in `encodings` and to weights in `layouts`); values of
parameters (`solve`) and of single weights (`weights`) are searched for. Among those that fit, the
one that takes the fewest bits to say is named first (`diagnosis`).

`explain` needs no search: both networks are known, so it measures what each kind of rounding does
to the distance between potential and threshold at the first spike that differs.
"""
