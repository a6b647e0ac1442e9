"""The small shared kernel that bots, worker and training import, and that imports none of them."""

import os

# Before any library is loaded: onnxruntime's Linux wheels tell Microsoft of their use, and the Hugging Face client
# tells its hub, unless these are set.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# numpy's threads wait for the next product by spinning, on the cores that the models need: a search takes a third
# longer with them. What is multiplied here is small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
