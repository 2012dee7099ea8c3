"""Models as despur sees them: encoders that are frozen, heads that are trained, and where the heads' weights lie."""
