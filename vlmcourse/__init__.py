"""The VLM workbook: build a vision-language model yourself, part by part.

What each folder holds stands in its first line; CONTRIBUTING.md draws how they build on each other.
Importing this package loads nothing but the standard library.
"""

from vlmcourse.moved import keep_old_names

__version__ = "0.1.0"

keep_old_names()
