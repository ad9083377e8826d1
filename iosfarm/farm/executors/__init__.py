"""What carries tasks to devices: `executor.py` is the contract; Ray, worker processes, or this process."""
