"""One job: training, evaluation, checkpoints, observers, provenance; and what is done with its stored model."""
