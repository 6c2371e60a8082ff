"""Exercises: for every slot a chapter teaches, its cases, slips and hints. One file per chapter, chNN.py."""
