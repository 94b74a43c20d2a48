"""From raw clips to a cache: decode, find and align faces, resample eye movement, store."""
