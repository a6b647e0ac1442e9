"""What the model learns from: documents and rows, then questions on passages, then prompts, then a schedule of batches.

Each step is a pure function of its input and a seed: a run that is resumed sees exactly what it would have seen.
"""
