"""The review page, where a person says which discrepancies are wrong, and the store that keeps every verdict."""
