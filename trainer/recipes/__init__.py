"""What a model is trained on and for: columns, how a sample is cut, inputs, loss, and which parameters train."""
