"""The built-in world: drawn birds on land and water, things on tables, and three small models that were trained on them."""
