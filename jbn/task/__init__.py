"""One trainable problem: model, data, loss, metrics and optimiser together."""
