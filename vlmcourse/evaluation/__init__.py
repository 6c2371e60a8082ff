"""Evaluation: numbers that say how good a model is, and what they do not say."""
