"""Asks for iroh endpoints on the local network, as iroh's programs do: one question, and nothing else."""

import mdns

mdns.send(mdns.join_group(), mdns.question())
