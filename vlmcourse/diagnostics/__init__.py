"""Diagnostics: tools that answer "where does the model look?" and, later, "does it look at all?"."""
