"""One file per shipped model: how it came about, as data; families/making.py carries recipes out."""
