"""Explanation maps at the cost of a forward pass, and measures of where they lie."""
