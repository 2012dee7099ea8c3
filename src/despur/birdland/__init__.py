"""The built-in world: procedurally drawn birds on land and water, and two small CLIP models trained on it."""
