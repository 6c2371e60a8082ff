"""What every data set needs: pixels, text, conversations, packing, batches; digits, photos and drawings."""
