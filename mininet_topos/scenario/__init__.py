"""What the scenarios share: the network, the traffic, and the check that counts every frame.

Runs under the system's python3 with Debian's mininet, and imports nothing else but the standard
library, because `mn --custom` runs it in the same way.
"""
