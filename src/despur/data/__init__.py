"""Datasets of every layout, read into one examples table, and images as they are found."""
