"""Recipes: one file per shipped model; read it to know how the model came about. `making.py` carries them
out."""
