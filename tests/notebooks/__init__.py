"""The notebooks: their anatomy, and a run with every exercise solved."""
