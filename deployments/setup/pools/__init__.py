"""Work pools: what a run is started with, by the type of the pool."""
