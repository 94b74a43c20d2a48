"""From a cache to a scoreboard: the MAQT network, its training, its predictions, their scores."""
