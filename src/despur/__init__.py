"""despur: find, judge, repair and prove spurious correlations in CLIP-like models."""
