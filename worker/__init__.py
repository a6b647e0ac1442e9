"""What thinks: the consumer of the queue. It holds the quantized model."""
