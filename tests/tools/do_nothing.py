"""Says that it is ready, and does nothing for a long time; its arguments are for the list of processes."""

import time

print("ready", flush=True)
time.sleep(1000)
