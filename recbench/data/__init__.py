"""Images and weights: downloads with checksums, image files, the cache of decoded datasets."""
