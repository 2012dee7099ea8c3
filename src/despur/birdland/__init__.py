"""The built-in world: drawn birds on land and water, things on tables, and three small models trained on them."""
