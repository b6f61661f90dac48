"""Scripts that drive one engine each; run by the peers' Python, so they import nothing of TinyLM."""
