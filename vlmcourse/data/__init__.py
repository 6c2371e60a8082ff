"""What models see: Scenes (the laboratory, all truth known), handwritten digits, photos, and batches of any of them."""
