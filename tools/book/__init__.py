"""The parts of tools/build_book.py: the executed course as a folder of pages that opens without a server."""
