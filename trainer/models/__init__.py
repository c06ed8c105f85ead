"""Networks that train: HighSync's two UNets, and the names under which their weights are published."""
