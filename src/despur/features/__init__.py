"""Images and prompts through the frozen encoders, once, onto disk."""
