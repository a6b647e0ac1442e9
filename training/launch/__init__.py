"""Where a retrain job runs: a machine rented for it (aws) or this one (local), behind one contract.

Both start the same `bootstrap.sh`, which runs the same `box.py`, and are followed by the same marks: a heartbeat every
few seconds, and a status that is written last and trusted only if it names the machine that the job started.
"""
