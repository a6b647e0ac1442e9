"""What learns: datasets, QLoRA, checkpoints, the evaluation gate, export and launchers."""
