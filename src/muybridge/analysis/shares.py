"""Interval of a share, without SciPy: training need not load it."""


def wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """Ends of Wilson's score interval of a share of `count` independent answers; `count` need not be whole."""
    shrink = 1 + quantile**2 / count
    center = (share + quantile**2 / (2 * count)) / shrink
    half = quantile / shrink * (share * (1 - share) / count + quantile**2 / (4 * count**2)) ** 0.5
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))
