"""The warnings of this package. Its errors are Python's own classes."""


class LikelyMistakeWarning(UserWarning):
    """The arguments are allowed, but look like a mistake that changes the result.

    For example probabilities given as logits, or a batch in which every row is ignored. The result is what the
    arguments ask for nevertheless. To suppress the warning, use ``warnings.filterwarnings("ignore",
    category=crossent.LikelyMistakeWarning)``; to locate the call, use ``"error"`` instead of ``"ignore"``.
    """


class NothingCountedWarning(LikelyMistakeWarning, RuntimeWarning):
    """A mean over no rows is nan: the batch is empty, or every row is ignored.

    It is a RuntimeWarning too, as NumPy's own "Mean of empty slice" is.
    """
