"""What learns: datasets, QLoRA, checkpoints, the evaluation gate, export and launchers."""

import os

# Threads that wait for each other in a busy loop starve where cores are shared: measured nine times slower beside eight
# busy processes. OpenMP reads this once, when torch is first imported, so it stands before everything in this room.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
