"""Recipes: one file per shipped model; read it to know how the model came about. `families/making.py` carries them
out."""
